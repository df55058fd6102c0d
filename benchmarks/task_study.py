"""Demonstrations, a policy and its score for each of several tasks, all by one recipe.

    python benchmarks/task_study.py 'metaworld/*' --train train.steps=1500 --output study
    python benchmarks/task_study.py fetch/push fetch/pick-and-place --evaluate episodes=100

Each task's expert records, `dipole train` learns from that alone, `dipole evaluate` scores; as many
tasks beside each other as there are cores, one core each. What a task made stays in its folder of
OUTPUT, so that a study can be stopped and gone on with; study.json has a row for each task.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from dipole.envs.evaluation.metrics import proportion_over_groups_interval
from dipole.envs.registry import ENVIRONMENTS

SCORES = ("episodes", "success_rate", "success_ci95", "success_at_end_rate", "max_reward_mean")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tasks", nargs="+", help="as of task=, or with *")
    parser.add_argument("--demonstrations", type=int, default=50, help="of each task")
    parser.add_argument("--record", nargs="*", default=[], help="more of `dipole record`")
    parser.add_argument("--train", nargs="*", default=[], help="more of `dipole train`")
    parser.add_argument("--evaluate", nargs="*", default=[], help="more of `dipole evaluate`")
    parser.add_argument("--policy", default="unet_small")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=Path("task_study"))
    chosen = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    tasks = [task for named in chosen.tasks for task in tasks_of(named)]
    with ThreadPoolExecutor(chosen.cores) as pool:
        rows = list(pool.map(partial(study, chosen), tasks))
    (chosen.output / "study.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(summary(rows))


def tasks_of(named: str) -> list[str]:
    """The tasks that a name with * stands for; those of sets of tasks are not among them."""
    family, _, pattern = named.partition("/")
    if "*" not in pattern:
        return [named]
    listed = [task for task in ENVIRONMENTS[family].tasks if fnmatch(task, pattern)]
    return [f"{family}/{task}" for task in listed if not task.startswith("mt")]


def study(chosen: argparse.Namespace, task: str) -> dict[str, Any]:
    """Record, train and evaluate, as far as it is not done yet."""
    folder = chosen.output / task.replace("/", "_")
    demonstrations, run, scored = (
        folder / name for name in ("demonstrations.zarr.zip", "run", "evaluation")
    )
    folder.mkdir(parents=True, exist_ok=True)
    task_is = f"task={task}"
    if not demonstrations.exists():
        words = [f"episodes={chosen.demonstrations}", *chosen.record, f"output={demonstrations}"]
        dipole(folder, "record", task_is, "expert=scripted", *words)
    if not (scored / "metrics.json").exists():
        words = [f"policy={chosen.policy}", "train.keep_checkpoints=1", *chosen.train]
        words += [f"dataset={demonstrations}", f"output={run}"]
        dipole(folder, "train", *([f"resume={run}"] if run.exists() else [task_is, *words]))
        words = [f"episodes={chosen.episodes}", "workers=0", *chosen.evaluate, f"output={scored}"]
        dipole(folder, "evaluate", f"checkpoint={run}", *words)
    metrics = json.loads((scored / "metrics.json").read_text())
    row = {"task": task, **{name: metrics[name] for name in SCORES}}
    print(line(row), flush=True)
    return row


def dipole(folder: Path, *words: str) -> None:
    """A command, whose output is added to the folder's log.txt."""
    command = [sys.executable, "-m", "dipole.apps.main", *words]
    with (folder / "log.txt").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)


def line(row: dict[str, Any]) -> str:
    low, high = row["success_ci95"]
    return (
        f"{row['task']:40} success {row['success_rate']:6.1%} ({low:.1%} to {high:.1%}) "
        f"of {row['episodes']}, at the end {row['success_at_end_rate']:.1%}, "
        f"max reward {row['max_reward_mean']:.3f}"
    )


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """The mean over tasks, with the interval of the episodes played."""
    groups = [(round(row["success_rate"] * row["episodes"]), row["episodes"]) for row in rows]
    low, high = proportion_over_groups_interval(groups)
    mean = statistics.fmean(row["success_rate"] for row in rows)
    return f"{len(rows)} tasks: mean success {mean:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()

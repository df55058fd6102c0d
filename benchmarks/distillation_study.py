"""Which way of distilling a policy: success, diversity and milliseconds of students in few steps.

    python benchmarks/distillation_study.py runs/teacher --fork runs/fork_teacher --output study
    python benchmarks/distillation_study.py runs/teacher --methods consistency shortcut --times 60

TEACHER is a run, of Push-T for example; --fork one of task=fork, on which diversity is measured,
and which is trained if it is left out. Each method trains its student by its recipe, one after
another, and is scored with 1, 2 and 4 jumps over the same episodes as the teacher. What a chunk
takes, of one row and one thread, is measured by `--times`, everything in turns in one process.
Students and scores stay in the folder OUTPUT (study.json, study.md, study.svg), so that a study can
be stopped and gone on with, or widened. Printed, as Markdown:

success, reward  over the episodes, with their 95 % intervals
Fork: success    of the student on Fork, where a mean of both ways fails
entropy          of the sides of Fork on which episodes succeed: 1 for 50/50
energy distance  of Fork's chunks to the demonstrated ones; 0: the same distribution
evaluations      of the network a chunk
ms               a chunk, in eager and in the fastest runtime, and how many times faster than the
                 teacher's TEACHER_STEPS in the same runtime
jerk             see docs/evaluation.md, of the first task
minutes          of training the student, by the clock
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dipole.benchmarks.figures.plot import Panel, Point, Series, draw
from dipole.policy.runtimes.runnable import FASTEST, load_runnable
from dipole.policy.runtimes.runtime import is_installed
from dipole.policy.training import objectives  # noqa: F401  they register themselves
from dipole.policy.training.objectives.distillation.base import distilling_methods

TEACHER = "teacher"
TEACHER_STEPS = 10
JUMPS = (1, 2, 4)
IN_A_ROW = 6  # chunks of a policy that is timed
OF_ONE_STEP = ("regression", "gan")  # methods whose students have no further steps
FORK = ("task=fork", "policy=unet_small", "policy.denoiser.down_dims=[32,64]", "train.steps=1500")
EAGER = "eager"
Cell = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("teacher", type=Path, help="a run")
    parser.add_argument("--fork", type=Path, help="a run of task=fork")
    parser.add_argument("--methods", nargs="+", default=distilling_methods())
    parser.add_argument("--jumps", type=int, nargs="+", default=list(JUMPS))
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--train", nargs="+", default=[], help="settings of each training")
    parser.add_argument("--evaluate", nargs="+", default=[], help="more settings, not of Fork")
    parser.add_argument("--times", type=float, default=0.0, help="seconds to time chunks for")
    parser.add_argument("--output", type=Path, default=Path("distillation_study"))
    chosen = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    chosen.output.mkdir(parents=True, exist_ok=True)
    chosen.fork = chosen.fork or fork_teacher(chosen)
    for method in [TEACHER, *chosen.methods]:
        for cell in cells(method, chosen):
            measure(cell, chosen)
    if chosen.times:
        file = chosen.output / "times.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | times(chosen), indent=1) + "\n")
    results = found(chosen.output)
    (chosen.output / "study.md").write_text(table(results))
    (chosen.output / "study.svg").write_text(picture(results))
    print(table(results))


def cells(method: str, chosen: argparse.Namespace) -> Iterator[Cell]:
    """What is measured of a method: {method, steps}."""
    steps = [*chosen.jumps, TEACHER_STEPS] if method == TEACHER else chosen.jumps
    for each in steps:
        if each == 1 or method not in OF_ONE_STEP:
            yield {"method": method, "steps": each}


def fork_teacher(chosen: argparse.Namespace) -> Path:
    folder: Path = chosen.output / "fork_teacher"
    trained(folder, ["train", *FORK], chosen)
    return folder


def students(method: str, chosen: argparse.Namespace) -> dict[str, Path]:
    """The runs of a method by task, trained where they are not."""
    teachers = {"main": chosen.teacher, "fork": chosen.fork}
    if method == TEACHER:
        return teachers
    made = {}
    for task, teacher in teachers.items():
        made[task] = chosen.output / method / task
        trained(made[task], ["distill", f"teacher={teacher}", f"method={method}"], chosen)
    return made


def trained(folder: Path, words: Sequence[str], chosen: argparse.Namespace) -> None:
    """A run; done.json has its minutes, all of its parts together where it was broken off."""
    note = folder / "done.json"
    state = json.loads(note.read_text()) if note.exists() else {"minutes": 0.0, "done": False}
    asked = [*words, *chosen.train]
    refuse_others(folder, state.get("asked", asked), asked)
    if state["done"]:
        return
    state["asked"] = asked
    began = time.perf_counter()
    try:
        if (folder / "run.json").exists():
            dipole("train", f"resume={folder}")
        else:
            dipole(*asked, "train.keep_checkpoints=1", f"output={folder}")
        state["done"] = True
    finally:
        if folder.exists():
            state["minutes"] += (time.perf_counter() - began) / 60
            note.write_text(json.dumps(state) + "\n")


def measure(cell: Cell, chosen: argparse.Namespace) -> None:
    """Evaluate on both tasks; the cell with its scores becomes a file of its own."""
    runs = students(cell["method"], chosen)
    place = chosen.output / cell["method"] / f"steps_{cell['steps']}_{chosen.episodes}"
    scores = {task: scored(runs[task], task, cell, place / task, chosen) for task in runs}
    main_task, fork = scores["main"], scores["fork"]
    done = runs["main"] / "done.json"
    result = {
        **cell,
        "success": main_task["success_rate"],
        "success_ci95": main_task["success_ci95"],
        "reward": main_task["max_reward_mean"],
        "reward_ci95": main_task["max_reward_ci95"],
        "jerk": main_task["jerk"],
        "evaluations": main_task["evaluations_per_chunk"],
        "episodes": main_task["episodes"],
        "fork_success": fork["success_rate"],
        "entropy": fork["aspects"]["mode_entropy"],
        "energy_distance": fork["aspects"]["energy_distance"],
        "minutes": json.loads(done.read_text())["minutes"] if done.exists() else None,
    }
    (place / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(row(result), flush=True)


def scored(run: Path, task: str, cell: Cell, place: Path, chosen: argparse.Namespace) -> Cell:
    """The metrics of an evaluation."""
    words = [f"checkpoint={run}", f"solver.steps={cell['steps']}", f"episodes={chosen.episodes}"]
    words += ["aspects=true", "aspects_likelihood=0"] if task == "fork" else chosen.evaluate
    note = place / "asked.json"
    if (place / "metrics.json").exists():
        refuse_others(place, json.loads(note.read_text()) if note.exists() else words, words)
    else:
        dipole("evaluate", *words, "picture=false", "video_episodes=0", f"output={place}")
        note.write_text(json.dumps(words) + "\n")
    metrics: Cell = json.loads((place / "metrics.json").read_text())
    return metrics


def refuse_others(place: Path, before: Sequence[str], now: Sequence[str]) -> None:
    """Stop where a study goes on with other settings than it began with."""
    if list(before) != list(now):
        sys.exit(
            f"{place} was made with {' '.join(before)}, and now {' '.join(now)} is asked for: give "
            "another --output"
        )


def dipole(*words: str) -> None:
    command = [sys.executable, "-m", "dipole.apps.main", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def times(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By "METHOD STEPS RUNTIME": the median milliseconds of a chunk, and how many times faster than
    the teacher's chunk of the same round. Rounds of IN_A_ROW calls each, of which the first, which
    finds another policy's weights in the caches, does not count."""
    import torch

    torch.set_num_threads(1)
    runtimes = [EAGER, *([FASTEST] if is_installed(FASTEST) else [])]
    calls = {
        f"{cell['method']} {cell['steps']} {runtime}": chunk_call(cell, runtime, chosen)
        for method in [TEACHER, *chosen.methods]
        for cell in cells(method, chosen)
        for runtime in runtimes
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    ends = time.perf_counter() + chosen.times
    while time.perf_counter() < ends or len(next(iter(taken.values()))) < 3:
        for name, call in calls.items():
            call()
            began = time.perf_counter()
            for _ in range(IN_A_ROW - 1):
                call()
            taken[name].append(1e3 * (time.perf_counter() - began) / (IN_A_ROW - 1))
    found = {}
    for name, own in taken.items():
        whole = taken[f"{TEACHER} {TEACHER_STEPS} {name.split()[-1]}"]
        faster = [theirs / mine for theirs, mine in zip(whole[1:], own[1:], strict=True)]
        found[name] = {"ms": statistics.median(own[1:]), "faster": statistics.median(faster)}
    return found


def chunk_call(cell: Cell, runtime: str, chosen: argparse.Namespace) -> Callable[[], object]:
    run = students(cell["method"], chosen)["main"]
    solver = {"steps": cell["steps"]}
    policy = load_runnable(run, runtime=runtime, solver=solver, batch_size=1, log=lambda _: None)
    return partial(policy.predict, policy.fake_observation(1))


def found(output: Path) -> list[Cell]:
    """The results of a study with their times, written to study.json as one list; of a method and
    number of steps that of most episodes."""
    every = [json.loads(file.read_text()) for file in output.glob("*/*/result.json")]
    every.sort(key=lambda each: each["episodes"])
    results: list[Cell] = list({(each["method"], each["steps"]): each for each in every}.values())
    file = output / "times.json"
    timed: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    for result in results:
        for runtime in (EAGER, FASTEST):
            own = timed.get(f"{result['method']} {result['steps']} {runtime}", {})
            result |= {f"{key}_{runtime}": value for key, value in own.items()}
    results.sort(key=lambda each: (each["method"] != TEACHER, each["method"], each["steps"]))
    (output / "study.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


HEADING = (
    "| method | evaluations | success, % | reward | Fork: success, % | entropy | energy distance | "
    "ms eager | ms fastest | jerk | minutes |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def table(results: Sequence[Cell]) -> str:
    return "\n".join([HEADING, *map(row, results)]) + "\n"


def row(result: Mapping[str, Any]) -> str:
    low, high = (100 * each for each in result["success_ci95"])
    least, most = result["reward_ci95"]
    shown = [result["method"], str(result["evaluations"])]
    shown += [f"{100 * result['success']:.1f} ({low:.1f} to {high:.1f})"]
    shown += [f"{result['reward']:.3f} ({least:.3f} to {most:.3f})"]
    shown += [number(100 * result["fork_success"], 1), number(result["entropy"], 2)]
    shown += [number(result["energy_distance"], 4)]
    shown += [timing(result, runtime) for runtime in (EAGER, FASTEST)]
    shown += [number(result["jerk"], 0), number(result["minutes"], 1)]
    return f"| {' | '.join(shown)} |"


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def timing(result: Mapping[str, Any], runtime: str) -> str:
    taken = result.get(f"ms_{runtime}")
    return "" if taken is None else f"{taken:.1f} ({result[f'faster_{runtime}']:.1f}×)"


def picture(results: Sequence[Cell]) -> str:
    """Success against milliseconds in eager, or evaluations where nothing was timed."""
    timed = all(f"ms_{EAGER}" in each for each in results)
    across = f"ms_{EAGER}" if timed else "evaluations"
    series = []
    for method in dict.fromkeys(each["method"] for each in results):
        own = [each for each in results if each["method"] == method]
        points = [
            Point(
                each[across],
                100 * each["success"],
                tuple(100 * end for end in each["success_ci95"]) if method == TEACHER else (),
                str(each["steps"]) if method == TEACHER else "",
            )
            for each in own
        ]
        series.append(Series(method, points))
    label = "milliseconds of a chunk, eager" if timed else "evaluations of a chunk"
    return draw([Panel(series, f"{label}, log scale", "success, %", log_x=True)])


if __name__ == "__main__":
    main()

"""Which network, noise process, prediction, solver and number of steps: score and milliseconds.

    python benchmarks/process_study.py DATASET --minutes 8 --output study
    python benchmarks/process_study.py DATASET --networks unet_small --processes flow edm

Networks of as many parameters train for the same processor time, each on one core, as many beside
each other as there are cores; then each is scored with each solver that fits its process, over the
same episodes. Trainings, and what was scored, stay in the folder OUTPUT (study.json, study.svg), so
that a study can be stopped and gone on with, or widened. What a call takes is measured again by
`--times`, all of them in turns, because evaluations run beside each other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from dipole.benchmarks.figures.plot import Panel, Point, Series, draw
from dipole.policy.core.components import PROCESSES, SOLVERS
from dipole.policy.diffusion.solvers import table_of
from dipole.policy.runtimes.runnable import load_runnable

NETWORKS = {"U-Net": "unet_small", "DiT": "dit_small"}
PROCESSES_TRIED = {
    "vp, noise": ["policy/process=vp", "policy/prediction=noise"],
    "vp, sample": ["policy/process=vp", "policy/prediction=sample"],
    "vp, v": ["policy/process=vp", "policy/prediction=v"],
    "flow": ["policy/process=flow"],
    "edm": ["policy/process=edm"],
}
SOLVERS_TRIED = ("ddim", "heun", "plms", "dpmpp_2m", "dpmpp_3m")
STEPS = (1, 2, 4, 10, 20)
SPACINGS = {"vp": ("trailing", "leading")}  # of others their own
LEADING_STEPS = 10  # with fewer, leading spacing begins far below full noise
TRIAL_STEPS = 60
TIMED = "vp, sample"  # whose calls are timed: a call takes as long with any process
SCORES = ("max_reward_mean", "max_reward_ci95", "success_rate", "success_ci95")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="demonstrations of Push-T with states")
    parser.add_argument("--minutes", type=float, default=8.0, help="of one core, each training")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS.values()))
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES_TRIED))
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS_TRIED))
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=42, help="of training")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runtime", default="auto", help="of the evaluations")
    parser.add_argument("--times", type=float, default=0.0, help="seconds to time calls for")
    parser.add_argument("--output", type=Path, default=Path("process_study"))
    chosen = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    chosen.output.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(chosen.cores) as pool:
        tried = pool.map(partial(affordable, chosen), chosen.networks)
        updates = dict(zip(chosen.networks, tried, strict=True))
        cells = [(n, p) for p in chosen.processes for n in chosen.networks]
        list(pool.map(lambda cell: train(chosen, cell[0], cell[1], updates[cell[0]]), cells))
        wanted = [(n, p, s) for n, p in cells for s in solvers_of(p, chosen)]
        list(pool.map(lambda each: score(chosen, *each), wanted))
    if chosen.times:
        times = {network: call_times(chosen, network) for network in chosen.networks}
        (chosen.output / "times.json").write_text(json.dumps(times, indent=1) + "\n")
    results = found(chosen.output)
    for result in results:
        print(line(result))
    (chosen.output / "study.svg").write_text(picture(results))


def run_folder(output: Path, network: str, process: str) -> Path:
    return output / f"{network}_{process.replace(', ', '_')}"


def affordable(chosen: argparse.Namespace, network: str) -> int:
    """The updates that a network makes in its minutes, by a short trial."""
    words = words_of(chosen, network, next(iter(PROCESSES_TRIED)))
    trial = [*words, f"train.steps={TRIAL_STEPS}", "train.log_every=10"]
    seconds = updates_of(trial, chosen.output / f"{network}_trial")
    minutes: float = chosen.minutes
    return round(60 * minutes / statistics.median(seconds[1:]))


def words_of(chosen: argparse.Namespace, network: str, process: str) -> list[str]:
    words = [f"policy={network}", *PROCESSES_TRIED[process], f"dataset={chosen.dataset}"]
    return [*words, "task=pusht_state", "train.threads=1", f"train.seed={chosen.seed}"]


def train(chosen: argparse.Namespace, network: str, process: str, updates: int) -> None:
    folder = run_folder(chosen.output, network, process)
    if (folder / "done.json").exists():
        return
    words = words_of(chosen, network, process)
    began = time.perf_counter()
    if (folder / "run.json").exists():  # broken off before it was done
        dipole("train", f"resume={folder}")
    taken = updates_of([*words, f"train.steps={updates}"], folder)
    parts = {"updates": updates, "ms": 1e3 * statistics.fmean(taken), "words": words}
    parts["minutes"] = (time.perf_counter() - began) / 60
    (folder / "done.json").write_text(json.dumps(parts, indent=1) + "\n")


def updates_of(words: Sequence[str], output: Path) -> list[float]:
    """A run; the processor's seconds of an update, of each report."""
    if not (output / "run.json").exists():
        dipole("train", *words, "train.keep_checkpoints=1", f"output={output}")
    rows = [json.loads(row) for row in (output / "log.jsonl").read_text().splitlines()]
    timed = [row for row in rows if "time/compute_ms" in row]
    return [1e-3 * (row["time/data_ms"] + row["time/compute_ms"]) for row in timed]


def solvers_of(process: str, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The solvers that fit, each table once: in few steps several solvers are the same."""
    kind = PROCESSES_TRIED[process][0].partition("=")[2]
    built, tables = PROCESSES[kind](), []
    for steps, name in product(chosen.steps, chosen.solvers):
        for spacing in SPACINGS.get(kind, (None,)):
            if spacing == "leading" and (name != "ddim" or steps < LEADING_STEPS):
                continue
            table: Any = table_of(SOLVERS[name](steps, spacing), built)
            if table not in tables:
                tables.append(table)
                terms = {"name": name, "steps": steps, "spacing": spacing}
                yield {**terms, "evaluations": len(table)}


def score(chosen: argparse.Namespace, network: str, process: str, solver: dict[str, Any]) -> None:
    """Evaluate a run with a solver; its terms and scores become a file of their own."""
    folder = run_folder(chosen.output, network, process)
    spacing = solver["spacing"] or "own"
    place = folder / f"{solver['name']}_{spacing}_{solver['steps']}_{chosen.episodes}"
    if not (place / "metrics.json").exists():
        words = [f"solver={solver['name']}", f"solver.steps={solver['steps']}", "picture=false"]
        words += [f"solver.spacing={solver['spacing'] or 'null'}"]
        words += [f"episodes={chosen.episodes}", "video_episodes=0", f"output={place}"]
        words += [f"runtime={chosen.runtime}"]
        dipole("evaluate", f"checkpoint={folder}", *words)
    metrics = json.loads((place / "metrics.json").read_text())
    result = {
        "network": network,
        "process": process,
        **solver,
        **{name: metrics[name] for name in SCORES},
        "episodes": metrics["episodes"],
        "policy_ms": metrics["policy_ms"]["p50"],
        "rows": metrics["policy_ms"]["rows"],
    }
    (place / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(line(result), flush=True)


def dipole(*words: str) -> None:
    command = [sys.executable, "-m", "dipole.apps.main", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def call_times(chosen: argparse.Namespace, network: str) -> dict[str, float]:
    """Milliseconds of a call by the evaluations in it, which is what it depends on."""
    ran = [
        json.loads(file.read_text()) for file in chosen.output.glob(f"{network}_*/*/result.json")
    ]
    folder = run_folder(chosen.output, network, TIMED)
    calls = {
        steps: one_call(folder, steps, next(result["rows"] for result in ran))
        for steps in sorted({result["evaluations"] for result in ran})
    }
    taken: dict[int, list[float]] = {steps: [] for steps in calls}
    ends = time.perf_counter() + chosen.times
    while time.perf_counter() < ends:
        for steps, call in calls.items():
            began = time.perf_counter()
            call()
            taken[steps].append(1e3 * (time.perf_counter() - began))
    return {str(steps): statistics.median(each[1:]) for steps, each in taken.items()}


def one_call(folder: Path, evaluations: int, rows: int) -> Callable[[], object]:
    """An inference call with so many evaluations, as `dipole evaluate` makes it."""
    solver = {"name": "ddim", "steps": evaluations, "spacing": "trailing"}
    policy = load_runnable(folder, runtime="auto", solver=solver, batch_size=rows)
    return partial(policy.predict, policy.fake_observation(rows))


def found(output: Path) -> list[dict[str, Any]]:
    """All results of a study, written to study.json as one list."""
    files = sorted(output.glob("*/*/result.json"))
    results = [json.loads(file.read_text()) for file in files]
    times = output / "times.json"
    timed = json.loads(times.read_text()) if times.exists() else {}
    for result in results:
        again = timed.get(result["network"], {}).get(str(result["evaluations"]))
        result["policy_ms"] = result["policy_ms"] if again is None else again
    results.sort(key=lambda each: (each["network"], each["process"], each["name"], each["steps"]))
    (output / "study.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def line(result: dict[str, Any]) -> str:
    reward, success = result["max_reward_ci95"], result["success_ci95"]
    return (
        f"{result['network']:10} {result['process']:10} {result['name']:8} "
        f"{result['spacing'] or '':8} "
        f"{result['steps']:3} steps, {result['evaluations']:3} evaluations: "
        f"{result['max_reward_mean']:.3f} ({reward[0]:.3f} to {reward[1]:.3f}), success "
        f"{result['success_rate']:.1%} ({success[0]:.1%} to {success[1]:.1%}), "
        f"{result['policy_ms']:.1f} ms for {result['rows']} rows"
    )


def picture(results: list[dict[str, Any]]) -> str:
    """A panel for each network; of each process the best solver at each number of steps. Solver and
    steps are written where nothing as fast scores higher."""
    panels = []
    for network in sorted({result["network"] for result in results}):
        best = {
            process: best_of_steps([r for r in results if r["process"] == process], network)
            for process in PROCESSES_TRIED
        }
        front = unbeaten([each for own in best.values() for each in own])
        series = [
            Series(process, [point(each, each in front) for each in own])
            for process, own in best.items()
            if own
        ]
        x_label = f"{network}: milliseconds of an inference call, log scale"
        panels.append(Panel(series, x_label, "mean max reward", log_x=True))
    return draw(panels)


def best_of_steps(results: list[dict[str, Any]], network: str) -> list[dict[str, Any]]:
    """By steps; of equal scores the first solver's."""
    best: dict[int, dict[str, Any]] = {}
    own = [result for result in results if result["network"] == network]
    for result in sorted(own, key=lambda each: SOLVERS_TRIED.index(each["name"])):
        known = best.get(result["steps"])
        if known is None or result["max_reward_mean"] > known["max_reward_mean"]:
            best[result["steps"]] = result
    return [best[steps] for steps in sorted(best)]


def unbeaten(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that score higher than all that are as fast."""
    found: list[dict[str, Any]] = []
    for result in sorted(results, key=lambda each: (each["policy_ms"], -each["max_reward_mean"])):
        if not found or result["max_reward_mean"] > found[-1]["max_reward_mean"]:
            found.append(result)
    return found


def point(result: dict[str, Any], is_named: bool) -> Point:
    name = f"{result['name']} {result['steps']}" if is_named else ""
    interval = tuple(result["max_reward_ci95"])
    return Point(result["policy_ms"], result["max_reward_mean"], interval, name)


if __name__ == "__main__":
    main()

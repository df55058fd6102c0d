"""Is every command within its limits, whatever happens? Generated runs of the control loop.

    python benchmarks/safe_commands.py --runs 200
    python benchmarks/safe_commands.py --runs 100000 --seed 1 --workers 2

Each run is made from a number of its own: seed x 1,000,000 + 0, 1, ... It holds a robot of one to
three action groups that lags, sags and is measured late; a policy whose chunks are smooth, wild or
nonsense, and late; stalls of the process and of calls, faulty sensors, holds, resumes, resets,
requests to stop and deaths of inference (tests/deploy/support/random_runs.py). What the robot was
sent is compared with the definitions of its limits by code that shares nothing with the command
filter (simulated_arm.py beside it). Exits with 1 if a command left its limits; figures come last.
"""

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "tests" / "deploy" / "support"
sys.path.insert(0, str(SUPPORT))

from random_runs import one_run  # noqa: E402
from simulated_arm import Figures  # noqa: E402

BATCH = 50  # runs between two messages
SHOWN = 10  # problems that are printed
COUNTS = ("runs", "holds", "resumes", "stalls", "missed slots", "resets", "faults",
          "never started", "chunks used", "chunks refused")  # fmt: skip
SEEDS = 1_000_000  # runs of one seed do not overlap with those of the next


def run_batch(numbers: range) -> tuple[Figures, Counter[str]]:
    """Figures and counts of the runs with these numbers; problems begin with their number."""
    warnings.simplefilter("ignore", RuntimeWarning)  # numbers of 1e308 overflow, and are refused
    figures, counts = Figures(), Counter[str]()
    for number in numbers:
        try:
            outcome = one_run(random.Random(number))
        except Exception as error:  # the run ended by a defect
            figures.problems.append(f"run {number}: {type(error).__name__}: {error}")
            continue
        problems = [f"run {number}: {problem}" for problem in outcome.figures.problems]
        outcome.figures.problems = problems
        figures.add(outcome.figures)
        counts += outcome.counts
        counts["generated runs"] += 1
    return figures, counts


def batches(seed: int, runs: int) -> Iterator[range]:
    first = seed * SEEDS
    for start in range(first, first + runs, BATCH):
        yield range(start, min(start + BATCH, first + runs))


def results(seed: int, runs: int, workers: int) -> Iterator[tuple[Figures, Counter[str]]]:
    if workers == 1:
        yield from map(run_batch, batches(seed, runs))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_batch, batches(seed, runs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    started, shown, shown_at = time.monotonic(), 0, time.monotonic()
    figures, counts = Figures(), Counter[str]()
    for part, counted in results(options.seed, options.runs, options.workers):
        figures.add(part)
        counts += counted
        for problem in figures.problems[shown:SHOWN]:
            print(problem, flush=True)
        shown = len(figures.problems)
        if time.monotonic() - shown_at > 60:
            shown_at = time.monotonic()
            print(f"{counts['generated runs']} runs, {figures.commands} commands", flush=True)
    seconds = time.monotonic() - started
    print(f"generated runs          {counts['generated runs']}, in {seconds:.0f} s")
    for name in COUNTS:
        print(f"{name:<24}{counts[name]}")
    print(f"commands checked        {figures.commands}")
    print(f"largest velocity        {figures.velocity:.7f} of its limit")
    print(f"largest acceleration    {figures.acceleration:.7f} of its limit")
    print(f"NaNs sent               {figures.not_finite}")
    print(f"problems                {len(figures.problems)}")
    return 1 if figures.problems or figures.not_finite or not figures.commands else 0


if __name__ == "__main__":
    sys.exit(main())

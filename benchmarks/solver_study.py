"""Which solver, spacing and number of steps: score and milliseconds of a trained policy.

    python benchmarks/solver_study.py RUN --output study.json --svg study.svg
    python benchmarks/solver_study.py RUN --steps 4 10 --spacings leading --episodes 500

Episodes and their noise are the same for all of them. What the output file already holds is not
computed again, so that a study can be stopped and gone on with, or widened.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dipole.benchmarks.figures.plot import Panel, Point, Series, draw
from dipole.envs import evaluate
from dipole.policy.checkpoint import find_checkpoint
from dipole.policy.runtimes.runnable import load_runnable


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a run, or one of its checkpoints")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 4, 20, 50, 100])
    parser.add_argument("--spacings", nargs="+", default=["leading", "trailing"])
    parser.add_argument("--solver", default="ddim")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtime", default="eager", help="as in `dipole evaluate` [eager]")
    parser.add_argument("--output", type=Path, default=Path("solver_study.json"))
    parser.add_argument("--svg", type=Path)
    chosen = parser.parse_args(arguments)
    results = json.loads(chosen.output.read_text()) if chosen.output.exists() else []
    for steps in chosen.steps:
        for spacing in chosen.spacings:
            solver = {"name": chosen.solver, "steps": steps, "spacing": spacing}
            terms = {"solver": solver, "episodes": chosen.episodes, "seed": chosen.seed}
            terms["runtime"] = chosen.runtime
            if not any(terms.items() <= result.items() for result in results):
                results.append(study(chosen.checkpoint, terms))
                chosen.output.write_text(json.dumps(results, indent=1) + "\n")
    for result in results:
        print(line(result))
    if chosen.svg:
        chosen.svg.write_text(picture(results))


def study(checkpoint: Path, terms: dict[str, Any]) -> dict[str, Any]:
    """Score over the episodes, and the processor's milliseconds of a chunk of one row."""
    policy = load_runnable(checkpoint, runtime=terms["runtime"], solver=terms["solver"])
    metrics = evaluate(policy, "pusht", episodes=terms["episodes"], seed=terms["seed"]).metrics
    names = ("max_reward_mean", "max_reward_ci95", "success_rate", "success_ci95")
    return {
        **terms,
        **{name: metrics[name] for name in names},
        "chunk_ms": chunk_milliseconds(policy),
        "checkpoint": find_checkpoint(checkpoint).name,
    }


def chunk_milliseconds(policy: Any, repeats: int = 10) -> float:
    """The least of some, on one thread, in the processor's time."""
    observation = policy.fake_observation(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        policy.predict(observation)
        taken.append(time.process_time() - began)
    torch.set_num_threads(threads)
    return 1e3 * min(taken)


def line(result: dict[str, Any]) -> str:
    solver, reward, success = result["solver"], result["max_reward_ci95"], result["success_ci95"]
    return (
        f"{solver['name']} {solver['spacing']:8} {solver['steps']:3} steps: "
        f"{result['max_reward_mean']:.3f} ({reward[0]:.3f} to {reward[1]:.3f}), success "
        f"{result['success_rate']:.0%} ({success[0]:.0%} to {success[1]:.0%}), "
        f"{result['chunk_ms']:.1f} ms a chunk, {result['episodes']} episodes"
    )


def picture(results: list[dict[str, Any]]) -> str:
    """Score against milliseconds; a line per spacing, a point per number of steps."""
    series = []
    for spacing in sorted({result["solver"]["spacing"] for result in results}):
        points = [
            Point(
                result["chunk_ms"],
                result["max_reward_mean"],
                tuple(result["max_reward_ci95"]),
                str(result["solver"]["steps"]),
            )
            for result in sorted(results, key=lambda each: each["solver"]["steps"])
            if result["solver"]["spacing"] == spacing
        ]
        series.append(Series(spacing, points))
    panel = Panel(series, "milliseconds a chunk, one thread", "mean max reward", log_x=True)
    return draw([panel])


if __name__ == "__main__":
    main()

"""Inference delay x merger: what a delay costs a policy in Push-T, and what each merger saves.

    python benchmarks/delay_table.py CHECKPOINT --output runs/delay    # 20 cells of 50 episodes
    python benchmarks/delay_table.py CHECKPOINT --output runs/delay --episodes 100
    python benchmarks/delay_table.py CHECKPOINT --output runs/prefix --delays 0 4 8 \\
        --mergers switch rtc trained_prefix --n-action-steps 4 --episodes 200
    python benchmarks/delay_table.py CHECKPOINT --output runs/limits --delays 0 --mergers switch \\
        --control-hz 100 --interpolation cubic --limits 800 8000

Every chunk arrives that many control steps (of 0.1 s) after it was asked for; episode i starts from
seed i in every cell, so that cells are compared episode by episode. A cell that is in the output
folder is not computed again: an interrupted table goes on where it was. Prints Markdown, how long a
single chunk takes with each merger, and draws delay.svg beside the cells.

Merger trained_prefix has a row where the policy was trained for it:

    dipole train task=pusht_state policy=unet_small policy/process=vp \\
        policy.head.prefix.probability=0.5
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dipole.benchmarks.figures.plot import Panel, Point, Series, draw
from dipole.data.core.errors import ConfigError
from dipole.deploy.chunks.blending import make_merger
from dipole.deploy.evaluation.latency import HZ, LIMITS, evaluate_delayed
from dipole.deploy.inference.torch_policy import PolicyCompute, spec_of
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import PolicySpec, Ticket
from dipole.envs.evaluation.metrics import mean_interval
from dipole.policy.runtimes.inference_policy import InferencePolicy
from dipole.policy.runtimes.runnable import load_runnable

MERGERS = ("switch", "cross_fade", "ensemble", "rtc", "trained_prefix")
DELAYS = (0, 1, 2, 4, 8)
BASELINE = "switch"
TIMED = 30  # chunks of each merger, in turns
Cell = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a run, a checkpoint, or an export")
    parser.add_argument("--output", type=Path, required=True, help="where the cells are kept")
    parser.add_argument("--episodes", type=int, default=50, help="of each cell [50]")
    parser.add_argument("--delays", type=int, nargs="+", default=DELAYS)
    parser.add_argument("--mergers", nargs="+", help="[all that the policy can do]")
    parser.add_argument("--n-action-steps", type=int, help="before the next chunk is asked for")
    parser.add_argument("--solver", default="ddim", help="[ddim]")
    parser.add_argument("--solver-steps", type=int, default=10, help="[10]")
    parser.add_argument("--merger-options", type=json.loads, default={}, help='{"rtc": {...}}')
    parser.add_argument("--control-hz", type=float, default=HZ, help="commands a second [10]")
    parser.add_argument("--interpolation", default="step", help="to commands [step]")
    parser.add_argument(
        "--limits", type=float, nargs=2, metavar=("VELOCITY", "ACCELERATION"), help="[none]"
    )
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    solver = {"name": chosen.solver, "steps": chosen.solver_steps}
    policy = load_runnable(chosen.checkpoint, solver=solver)
    chosen.mergers = chosen.mergers or possible(spec_of(policy))
    cells = table(policy, chosen)
    delays = sorted(chosen.delays)  # whichever are computed first
    print("\n".join(markdown(cells, delays, chosen.mergers)))
    milliseconds = chunk_times(policy, chosen.mergers, chosen.merger_options)
    print("\n".join(times_in_markdown(milliseconds)))
    picture = chosen.output / "delay.svg"
    picture.write_text(picture_of(cells, delays, chosen.mergers))
    print(picture)


def possible(policy: PolicySpec) -> list[str]:
    """The mergers that a policy can serve."""
    found = []
    for name in MERGERS:
        try:
            make_merger(name, ActionSpec(("x",), measured_by="x")).use_with(policy)
        except ConfigError as error:
            print(f"without {name}: {error}")
        else:
            found.append(name)
    return found


def chunk_times(
    policy: InferencePolicy,
    mergers: Sequence[str],
    options: Mapping[str, Cell],
    repeats: int = TIMED,
) -> dict[str, float]:
    """Milliseconds of one chunk for one robot, by merger: the median of `repeats`, in turns."""
    spec, compute = spec_of(policy), PolicyCompute(policy)
    steps = spec.window.n_obs_steps
    middle = np.full(spec.action_size, 256.0)
    observation = {
        name: np.full((steps, *shape), 128, np.float32 if len(shape) < 3 else np.uint8)
        for name, shape in spec.observation.items()
    }
    known = {}
    for name in mergers:
        merger = make_merger(name, ActionSpec(("x",), measured_by="x"), **options.get(name, {}))
        merger.use_with(spec)
        left = [middle] * (spec.window.horizon - steps + 1)
        known[name] = merger.known([middle] * (steps - 1), left, 4, spec.window)
    seconds: dict[str, list[float]] = {name: [] for name in mergers}
    for number in range(repeats + 1):
        for name in mergers:
            started = time.perf_counter()
            compute(Ticket(1, 0, 0.0, 0), observation, known[name] or None)
            if number:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    return {name: 1e3 * statistics.median(each) for name, each in seconds.items()}


def times_in_markdown(milliseconds: Mapping[str, float]) -> list[str]:
    least = milliseconds.get(BASELINE)
    lines = ["", "| merger | one chunk, ms | times switching's |", "|---|---|---|"]
    for name, each in milliseconds.items():
        ratio = "" if least is None else f"{each / least:.2f}"
        lines.append(f"| {name} | {each:.1f} | {ratio} |")
    return [*lines, ""]


def table(policy: InferencePolicy, chosen: argparse.Namespace) -> dict[tuple[str, int], Cell]:
    """All cells by merger and delay: read, or computed and kept."""
    terms = {
        "checkpoint": str(chosen.checkpoint),
        "episodes": chosen.episodes,
        "n_action_steps": chosen.n_action_steps,
        "solver": chosen.solver,
        "solver_steps": chosen.solver_steps,
        "commands": [chosen.control_hz, chosen.interpolation, chosen.limits],
    }
    cells = {}
    for delay in chosen.delays:
        for merger in chosen.mergers:
            options = chosen.merger_options.get(merger, {})
            path = chosen.output / f"{merger}_{delay}.json"
            cell = _kept(path, terms | {"options": options})
            if cell is None:
                cell = _compute(policy, merger, delay, options, chosen)
                path.write_text(json.dumps({"terms": terms | {"options": options}, **cell}) + "\n")
            cells[merger, delay] = cell
            print(f"{merger} {delay}: {cell['max_reward_mean']:.3f}", flush=True)
    return cells


def _kept(path: Path, terms: Cell) -> Cell | None:
    """A cell that was computed before, on the same terms."""
    if not path.is_file():
        return None
    cell: Cell = json.loads(path.read_text())
    if cell["terms"] != terms:
        raise SystemExit(f"{path} was computed with {cell['terms']}: give another --output")
    return cell


def _compute(
    policy: InferencePolicy, merger: str, delay: int, options: Cell, chosen: argparse.Namespace
) -> Cell:
    return evaluate_delayed(
        policy,
        delay=delay,
        episodes=chosen.episodes,
        merger=merger,
        merger_options=options,
        n_action_steps=chosen.n_action_steps,
        control_hz=chosen.control_hz,
        interpolation=chosen.interpolation,
        limits=_limits(chosen.limits),
    ).metrics


def _limits(given: Sequence[float] | None) -> Limits:
    """Velocity and acceleration of both axes, in pixels and seconds; wide ones where not given."""
    if given is None:
        return LIMITS
    return replace(LIMITS, velocity=(given[0],) * 2, acceleration=(given[1],) * 2)


def markdown(
    cells: Mapping[tuple[str, int], Cell], delays: Sequence[int], mergers: Sequence[str]
) -> list[str]:
    """The table, one row a cell, with the difference to switching over the same episodes."""
    lines = [
        "| delay | merger | mean max reward | minus switching | success | seam jump, px "
        "| jerk, px/s³ | starved steps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for delay in delays:
        for merger in mergers:
            cell = cells[merger, delay]
            low, high = cell["max_reward_ci95"]
            difference = "" if merger == BASELINE else _difference(cells, merger, delay)
            lines.append(
                f"| {delay} | {merger} | {cell['max_reward_mean']:.3f} ({low:.3f} to {high:.3f}) "
                f"| {difference} | {cell['success_rate']:.0%} | {cell['seam_jump']:.1f} "
                f"| {cell['jerk']:,.0f} | {cell['starved_steps']} |"
            )
    return lines


def rewards(cell: Cell) -> np.ndarray:
    return np.array([episode["max_reward"] for episode in cell["per_episode"]])


def _difference(cells: Mapping[tuple[str, int], Cell], merger: str, delay: int) -> str:
    if (BASELINE, delay) not in cells:
        return ""
    apart = rewards(cells[merger, delay]) - rewards(cells[BASELINE, delay])
    low, high = mean_interval(apart.tolist())
    return f"{apart.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def picture_of(
    cells: Mapping[tuple[str, int], Cell], delays: Sequence[int], mergers: Sequence[str]
) -> str:
    """An SVG picture: mean max reward with its interval, seam jump and jerk, over delay."""

    def panel(label: str, value: str, interval: str | None = None, scale: float = 1.0) -> Panel:
        series = []
        for merger in mergers:
            own = [(delay, cells[merger, delay]) for delay in delays]
            points = [
                Point(delay, scale * cell[value], tuple(cell[interval]) if interval else ())
                for delay, cell in own
            ]
            series.append(Series(merger, points))
        return Panel(series, "inference delay, control steps of 0.1 s", label)

    panels = [
        panel("mean max reward, 95 % interval", "max_reward_mean", "max_reward_ci95"),
        panel("jump at seams, px", "seam_jump"),
        panel("jerk, 1,000 px/s³", "jerk", scale=1e-3),
    ]
    return draw(panels, columns=len(panels))


if __name__ == "__main__":
    main()

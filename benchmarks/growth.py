"""How time grows: a chunk's with batch, horizon and solver steps, a training step's with batch.

    python benchmarks/growth.py --output growth.json --svg growth.svg
    python benchmarks/growth.py --network unet --axes batch --seconds 10

At each point the plain way, dipole eager and dipole in OpenVINO take turns, as in `dipole bench`.
Beside them is the limit: the products at the machine's GEMM rate, or the weights read from memory,
whichever takes longer. What the output file already holds is not measured again.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dipole.benchmarks.figures import chunks, training
from dipole.benchmarks.figures.definitions import AS_IT_COMES, ASLEEP
from dipole.benchmarks.figures.limits import measure_limits
from dipole.benchmarks.figures.networks import (
    NETWORKS,
    STEPS,
    forward_flops,
    loop_weights,
    training_flops,
)
from dipole.benchmarks.figures.plot import Panel, Point, Series, draw
from dipole.benchmarks.figures.turns import Contestant, take_turns

HORIZON = 16
TRAINING = "training batch"
VALUES = {
    "batch": (1, 4, 16, 64, 256),
    "horizon": (16, 32, 64, 128),
    "steps": (4, 10, 20, 50, 100),
    TRAINING: (16, 32, 64, 128, 256),
}
LABELS = {
    "batch": "batch, 10 steps, horizon 16",
    "horizon": "horizon, batch 1, 10 steps",
    "steps": "solver steps, batch 1, horizon 16",
    TRAINING: "batch of a training step",
}
WAYS = ("plain", "dipole", "dipole openvino")
Limits = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="unet_small")
    parser.add_argument("--axes", nargs="+", choices=VALUES, default=list(VALUES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=4.0, help="of turns at each point")
    parser.add_argument("--output", type=Path, default=Path("growth.json"))
    parser.add_argument("--svg", type=Path)
    chosen = parser.parse_args(arguments)
    results = json.loads(chosen.output.read_text()) if chosen.output.exists() else []
    limits = measure_limits(chosen.threads)[str(chosen.threads)]
    for axis in chosen.axes:
        for value in VALUES[axis]:
            terms = {"network": chosen.network, "threads": chosen.threads, "axis": axis}
            terms["value"] = value
            if not any(terms.items() <= result.items() for result in results):
                results.append(terms | measure(terms, limits, chosen.seconds))
                chosen.output.write_text(json.dumps(results, indent=1) + "\n")
                print(line(results[-1]), flush=True)
    if chosen.svg:
        chosen.svg.write_text(picture(results, chosen.network))


def measure(terms: Mapping[str, Any], limits: Limits, seconds: float) -> dict[str, Any]:
    """Milliseconds of each way, the median by the clock; and the limit's."""
    case = _training if terms["axis"] == TRAINING else _chunk
    contestants, limit = case(terms, limits)
    times = take_turns(contestants, seconds)
    return {
        "ms": {way: 1e3 * statistics.median(own.clock) for way, own in times.items()},
        "threads_used": {way: str(own.facts.get("threads")) for way, own in times.items()},
        "limit_ms": limit,
    }


def _chunk(terms: Mapping[str, Any], limits: Limits) -> tuple[dict[str, Contestant], float]:
    given = {"batch": 1, "horizon": HORIZON, "steps": STEPS, terms["axis"]: terms["value"]}
    options = {"network": terms["network"], "threads": terms["threads"], **given}
    contestants = {
        WAYS[0]: Contestant(chunks.plain, options, environment=AS_IT_COMES),
        **{
            way: Contestant(chunks.ours, options | {"runtime": runtime}, environment=ASLEEP)
            for runtime, way in zip(("eager", "openvino"), WAYS[1:], strict=True)
        },
    }
    loop, _ = loop_weights(terms["network"])
    reading = 4 * loop / (1e6 * limits["read_gb_s"])
    flops = forward_flops(terms["network"], given["horizon"]) * given["batch"]
    computing = 1e-6 * flops / limits["gemm_gflops"]["float32"]
    return contestants, given["steps"] * max(reading, computing)


def _training(terms: Mapping[str, Any], limits: Limits) -> tuple[dict[str, Contestant], float]:
    batch = terms["value"]
    options = {"network": terms["network"], "batch": batch, "threads": terms["threads"]}
    contestants = {
        WAYS[0]: Contestant(training.plain_step, options, environment=AS_IT_COMES),
        WAYS[1]: Contestant(training.our_step, options, environment=AS_IT_COMES),
    }
    flops = training_flops(terms["network"], batch)
    return contestants, 1e-6 * flops / limits["gemm_gflops"]["float32"]


def line(result: Mapping[str, Any]) -> str:
    ways = ", ".join(f"{way} {ms:.1f}" for way, ms in result["ms"].items())
    return f"{result['network']}, {result['axis']} {result['value']}: {ways} ms; limit " + (
        f"{result['limit_ms']:.1f}"
    )


def picture(results: Sequence[Mapping[str, Any]], network: str) -> str:
    """A panel for each axis: milliseconds of each way, the limit dashed, both axes logarithmic."""
    panels = []
    for axis, label in LABELS.items():
        measured = [r for r in results if (r["axis"], r["network"]) == (axis, network)]
        measured.sort(key=lambda result: result["value"])
        if not measured:
            continue
        series = [
            Series(way, [Point(r["value"], r["ms"][way]) for r in measured])
            for way in WAYS
            if way in measured[0]["ms"]
        ]
        limit = [Point(r["value"], r["limit_ms"]) for r in measured]
        series.append(Series("limit", limit, dashed=True))
        panels.append(Panel(series, label, "milliseconds", log_x=True, log_y=True))
    return draw(panels, columns=2)


if __name__ == "__main__":
    main()

"""One chunk, batch 1, ten DDIM steps: the plain way beside ours, in every runtime installed.

    python benchmarks/chunk.py                                  # both networks
    python benchmarks/chunk.py --networks unet_small --rounds 40 --json chunk.json

All share one set of weights, one observation and one noise, and their chunks are compared first.
They run in turns, and ratios are taken within each round, so that a machine busy with other things
slows all of them. The limit is what reading the weights from memory takes: they are read once in
every step, whatever is computed.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from plain import PlainUnet1D
from torch import Tensor

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.denoisers.published import from_published
from dipole.policy.export import export_policy
from dipole.policy.exported import load_exported
from dipole.policy.runtimes.runtime import is_installed

NETWORKS: dict[str, dict[str, Any]] = {
    "unet_small": {"down_dims": (64, 128, 256), "time_embed_dim": 128},
    "unet": {"down_dims": (256, 512, 1024), "time_embed_dim": 256},
}
FEATURES = Features({"state": Feature((20,), normalize="identity")}, Feature((2,), kind="action"))
WINDOW = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)
STEPS = 10
RUNTIMES = ("onnx", "openvino")
Chunk = Callable[[], Tensor]
Clock = Callable[[], float]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=1, help="rows [1]")
    parser.add_argument("--rounds", type=int, default=20, help="of timing [20]")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="[all cores]")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the processor's time, not the clock's: for one thread on a busy machine",
    )
    parser.add_argument("--runtimes", nargs="*", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    clock = time.process_time if chosen.processor_time else time.perf_counter
    figures: dict[str, Any] = {
        "clock": clock.__name__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "threads": chosen.threads,
        "batch": chosen.batch,
        "denoising_steps": STEPS,
        "rounds": chosen.rounds,
        "networks": {},
    }
    for name in chosen.networks:
        with tempfile.TemporaryDirectory() as folder:
            plain, ours = networks(name)
            ways = dict(contestants(plain, ours, chosen.batch, chosen.runtimes, Path(folder)))
            compare(ways)
            figures["networks"][name] = measure(ways, chosen.rounds, clock) | limit(ours, clock)
        show(name, figures["networks"][name])
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


def networks(name: str) -> tuple[PlainUnet1D, Policy]:
    """The plain network, and a policy with its weights; normalisers are the identity."""
    torch.manual_seed(0)
    options = NETWORKS[name]
    plain = PlainUnet1D(action_dim=2, context_dim=40, **options)
    denoiser = {"name": "unet1d", **options, "down_dims": list(options["down_dims"])}
    ours = Policy(PolicyConfig(denoiser=denoiser), FEATURES, WINDOW)
    ours.head.denoiser.load_state_dict(from_published(plain.state_dict()))
    return plain.eval().requires_grad_(False), ours.eval().requires_grad_(False)


def contestants(
    plain: PlainUnet1D, ours: Policy, batch: int, runtimes: Sequence[str], folder: Path
) -> Iterator[tuple[str, Chunk]]:
    """What is timed: observation and noise in, chunk out."""
    observation, noise = torch.randn(batch, 2, 20), torch.randn(batch, 16, 2)
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=100)
    scheduler.config.steps_offset = 0
    scheduler.set_timesteps(STEPS)
    yield "plain", lambda: plain_chunk(plain, scheduler, observation.flatten(1), noise)
    yield "dipole eager", lambda: ours.predict({"state": observation}, noise=noise)
    for runtime in runtimes:
        if is_installed(runtime):
            export_policy(ours, runtime, folder / runtime)
            exported = load_exported(folder / runtime)
            yield runtime, lambda run=exported: run.predict({"state": observation}, noise=noise)


@torch.inference_mode()
def plain_chunk(
    network: PlainUnet1D, scheduler: DDIMScheduler, vector: Tensor, noise: Tensor
) -> Tensor:
    """The published loop: everything anew in every step."""
    x = noise
    for time_step in scheduler.timesteps:
        prediction = network(x, time_step.expand(len(x)), vector)
        x = scheduler.step(prediction, time_step, x).prev_sample
    return x


def compare(ways: dict[str, Chunk]) -> None:
    """Nothing is timed that computes something else."""
    expected = ways["plain"]()
    for name, chunk in ways.items():
        difference = float((chunk() - expected).abs().max())
        if difference > 1e-4:
            raise SystemExit(f"{name} differs from the plain way by {difference:.1e}")


def measure(ways: dict[str, Chunk], rounds: int, clock: Clock) -> dict[str, Any]:
    """Milliseconds of each, and how many times faster than the plain way, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, chunk in ways.items():
            started = clock()
            chunk()
            seconds[name].append(clock() - started)
    return {
        "ways": {
            name: {
                "ms_least": 1e3 * min(times),
                "ms_median": 1e3 * statistics.median(times),
                "times_plain": spread(
                    [plain / own for plain, own in zip(seconds["plain"], times, strict=True)]
                ),
                "times_plain_of_least": min(seconds["plain"]) / min(times),
            }
            for name, times in seconds.items()
        }
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and the middle 80 %."""
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return {"median": statistics.median(values), "p10": tenths[0], "p90": tenths[-1]}


def limit(ours: Policy, clock: Clock) -> dict[str, Any]:
    """What reading the weights takes: those of the loop in every step, the others once."""
    sizes = {name: 4 * weight.numel() for name, weight in ours.head.denoiser.named_parameters()}
    once = sum(size for name, size in sizes.items() if ".film." in name or "time_emb" in name)
    in_loop = sum(sizes.values()) - once
    bandwidth = read_bandwidth(clock)
    return {
        "weight_bytes_of_a_step": in_loop,
        "read_bandwidth_gb_s": bandwidth / 1e9,
        "limit_ms": 1e3 * (STEPS * in_loop + once) / bandwidth,
    }


def read_bandwidth(clock: Clock, rounds: int = 10) -> float:
    """Bytes a second, the best of several sums over 512 MiB, far more than any cache."""
    numbers = torch.ones(2**27)
    least = float("inf")
    for _ in range(rounds):
        started = clock()
        numbers.sum()
        least = min(least, clock() - started)
    return 4 * len(numbers) / least


def show(name: str, figures: dict[str, Any]) -> None:
    print(f"\n{name}\n{'':14} {'ms least':>9} {'median':>8}   times the plain way (p10 to p90)")
    for way, figure in figures["ways"].items():
        ratio = figure["times_plain"]
        print(
            f"{way:14} {figure['ms_least']:9.1f} {figure['ms_median']:8.1f}   {ratio['median']:.2f}"
            f" ({ratio['p10']:.2f} to {ratio['p90']:.2f}), least by least "
            f"{figure['times_plain_of_least']:.2f}"
        )
    print(
        f"{'limit':14} {figures['limit_ms']:9.1f}            "
        f"{figures['weight_bytes_of_a_step'] / 1e6:.0f} MB of weights a step at "
        f"{figures['read_bandwidth_gb_s']:.1f} GB/s"
    )


if __name__ == "__main__":
    main()

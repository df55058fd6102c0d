"""A chunk: observation and noise in, actions out."""

import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dipole.benchmarks.figures.networks import STEPS, our_policy, plain_network
from dipole.benchmarks.figures.plain import plain_chunk, plain_scheduler
from dipole.benchmarks.figures.turns import Work
from dipole.policy import Policy
from dipole.policy.core.threads import Threads, fastest_threads


def inputs(batch: int, horizon: int) -> tuple[dict[str, Tensor], Tensor]:
    """An observation and a noise, the same for everybody."""
    generator = torch.Generator().manual_seed(1)
    vector = torch.randn(batch, 2, 20, generator=generator)
    keypoint = vector[:, :, :18].reshape(batch, 2, 9, 2).contiguous()
    noise = torch.randn(batch, horizon, 2, generator=generator)
    return {"keypoint": keypoint, "agent_pos": vector[:, :, 18:].contiguous()}, noise


def plain(
    network: str, batch: int, threads: int, steps: int = STEPS, horizon: int = 16
) -> tuple[Work, dict[str, Any]]:
    """The published network and loop; one thread or all, whichever is faster."""
    model = plain_network(network).eval().requires_grad_(False)
    scheduler, (observation, noise) = plain_scheduler(steps), inputs(batch, horizon)
    frames = [observation["keypoint"].flatten(2), observation["agent_pos"]]
    vector = torch.cat(frames, dim=2).flatten(1)
    return timed(lambda: plain_chunk(model, scheduler, vector, noise), threads)


def ours(
    network: str, batch: int, threads: int, runtime: str, steps: int = STEPS, horizon: int = 16
) -> tuple[Work, dict[str, Any]]:
    """A policy in one of the runtimes, or eager."""
    policy = our_policy(network, horizon, steps)
    return predicting(policy, *inputs(batch, horizon), threads, runtime)


def timed(work: Callable[[], Tensor], threads: int) -> tuple[Work, dict[str, Any]]:
    """Work that returns chunks, on one thread or all, whichever is faster."""
    choices = list(dict.fromkeys([Threads(1), Threads(threads)]))
    _, found = fastest_threads(choices, lambda _: work())
    return work, {"threads": found, "chunk": work()[0].tolist()}


def predicting(
    policy: Policy, observation: dict[str, Tensor], noise: Tensor, threads: int, runtime: str
) -> tuple[Work, dict[str, Any]]:
    """Its chunks in a runtime, which chooses its threads itself, or eager."""
    policy = policy.eval().requires_grad_(False)
    if runtime == "eager":
        return timed(lambda: policy.predict(observation, noise=noise), threads)
    torch.set_num_threads(threads)
    run = _exported(policy, runtime)
    chunk = run.predict(observation, noise=noise)[0].tolist()
    more = {"threads": f"up to {threads}", "chunk": chunk}
    return lambda: run.predict(observation, noise=noise), more


def _exported(policy: Any, runtime: str) -> Any:
    from dipole.policy.runtimes.export import export_policy
    from dipole.policy.runtimes.exported import load_exported

    folder = tempfile.TemporaryDirectory(prefix="dipole_bench_")
    export_policy(policy, runtime, Path(folder.name) / runtime)
    exported = load_exported(Path(folder.name) / runtime, runtime)
    weakref.finalize(exported, folder.cleanup)
    return exported

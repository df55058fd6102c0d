"""One way to load whatever predicts chunks: a checkpoint, or an export, in a chosen runtime."""

import math
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dipole.data.core.errors import ConfigError
from dipole.policy.checkpoint import export_terms, find_checkpoint, load_policy
from dipole.policy.diffusion.solvers import solver_with
from dipole.policy.policy import Policy
from dipole.policy.runtimes import RUNTIMES, cuda_graph
from dipole.policy.runtimes.exported import ExportedPolicy, is_export, load_exported
from dipole.policy.runtimes.runtime import is_installed

EAGER, AUTO = "eager", "auto"
FASTEST = "openvino"  # what "auto" compares with eager: the fastest on every CPU measured
ROUNDS = 5
# When "auto" exports: exporting takes some seconds, and a chunk in less time than a camera's
# picture takes to arrive is fast enough.
WORTH_SECONDS = 20.0
FAST_ENOUGH = 0.005

Runnable = Policy | ExportedPolicy


def load_runnable(
    path: Path,
    *,
    runtime: str | None = None,
    device: torch.device | str = "cpu",
    weights: str = "ema",
    solver: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    calls: float = math.inf,
    part: str | None = None,
    log: Callable[[str], None] = print,
) -> Runnable:
    """The policy of a checkpoint, run or export, ready to predict batches of `batch_size`.

    runtime: None runs an export as what it is and a checkpoint eagerly; a runtime's name exports
    the checkpoint for it first, to a temporary folder; "auto" does so on a CPU where OpenVINO is
    installed and there is time to be saved, measures both, and takes the faster; "cuda_graph"
    captures the loop on a GPU. All but those of low precision agree to 1e-4 of a normalised action,
    on a GPU to 1e-3. calls: how many batches will be asked for, as far as is known.
    solver: entries that replace those of the checkpoint; None entries do not. part: which dataset
    of a mixture the robot is like, see `load_policy`; an export's own.
    """
    solver = solver or {}
    if is_export(path):
        return _load_export(path, runtime, _given(solver), batch_size, part)
    known = [EAGER, AUTO, *RUNTIMES.names(), cuda_graph.NAME]
    if runtime is not None and runtime not in known:
        raise ConfigError(f"unknown runtime {runtime!r}; known: {', '.join(known)}")
    checkpoint = find_checkpoint(path)
    policy = load_policy(checkpoint, device, weights, part)
    set_solver(policy, solver)
    if runtime in (None, EAGER):
        return policy
    if runtime == cuda_graph.NAME:
        from dipole.policy.runtimes.export import captured_policy

        return captured_policy(policy, batch_size)
    if runtime == AUTO:
        terms = export_terms(checkpoint, weights, part)
        return _fastest(policy, terms, batch_size, calls, log)
    if policy.device.type != "cpu":
        raise ConfigError(f"runtime={runtime} runs on the processor: leave device={device} out")
    terms = export_terms(checkpoint, weights, part)
    return _exported_aside(policy, terms, str(runtime), batch_size)


def _fastest(
    policy: Policy,
    terms: Mapping[str, Any],
    batch_size: int,
    calls: float,
    log: Callable[[str], None],
) -> Runnable:
    """The policy itself, or on a processor what OpenVINO makes of it, where that saves time."""
    if policy.device.type != "cpu" or not is_installed(FASTEST):
        return policy
    seconds = least_seconds(policy, batch_size)
    if seconds < FAST_ENOUGH or seconds * calls < WORTH_SECONDS:
        return policy
    exported = _exported_aside(policy, terms, FASTEST, batch_size)
    return faster(policy, exported, batch_size, log)


def set_solver(policy: Policy, values: Mapping[str, Any]) -> None:
    """Replace what is given (not None) of how the policy draws chunks."""
    given = _given(values)
    if not given:
        return
    if policy.solver is None:
        raise ConfigError(f"the policy's head {policy.config.head['name']!r} has no solver to set")
    policy.solver = solver_with(policy.solver, given)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def least_seconds(policy: Runnable, batch_size: int) -> float:
    """The least time that a batch takes, of a few."""
    observation = policy.fake_observation(batch_size)
    policy.predict(observation)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        policy.predict(observation)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def faster(
    policy: Policy, exported: ExportedPolicy, batch_size: int, log: Callable[[str], None]
) -> Runnable:
    """The faster of the two, by the least time that a batch took of each, measured in turns."""
    observation = policy.fake_observation(batch_size)
    seconds: dict[str, list[float]] = {EAGER: [], exported.runtime: []}
    for _ in range(ROUNDS):
        for name, candidate in ((EAGER, policy), (exported.runtime, exported)):
            started = time.perf_counter()
            candidate.predict(observation)
            seconds[name].append(time.perf_counter() - started)
    least = {name: min(times) for name, times in seconds.items()}
    winner = min(least, key=lambda name: least[name])
    measured = ", ".join(f"{name} {1e3 * time:.1f} ms" for name, time in least.items())
    log(f"runtime: {winner} ({measured} for a batch of {batch_size})")
    return policy if winner == EAGER else exported


def _load_export(
    folder: Path,
    runtime: str | None,
    solver: Mapping[str, Any],
    batch_size: int,
    part: str | None,
) -> ExportedPolicy:
    exported = load_exported(folder, None if runtime == AUTO else runtime)
    built_for = exported.schema.get("source", {}).get("part")
    if part is not None and part != built_for:
        raise ConfigError(
            f"part={part}: the export's numbers are those of "
            f"{built_for or 'the policy, without a part'}; export the checkpoint again with "
            f"part={part}"
        )
    built_in = exported.solver.to_dict()
    for key, value in solver_with(exported.solver, solver).to_dict().items():
        if built_in.get(key) != value:
            raise ConfigError(
                f"solver.{key}={value}: the export's solver is part of it, with "
                f"{key}={built_in.get(key)}; export the checkpoint again with solver.{key}={value}"
            )
    exported.warm_up(batch_size)
    return exported


def _exported_aside(
    policy: Policy, terms: Mapping[str, Any], runtime: str, batch_size: int
) -> ExportedPolicy:
    """An export in a temporary folder, which goes when the policy does."""
    from dipole.policy.runtimes.export import export_policy

    parent = tempfile.mkdtemp(prefix="dipole_export_")
    try:
        folder = Path(parent) / runtime
        export_policy(policy, runtime, folder, terms=terms, batch_sizes=[batch_size])
        exported = load_exported(folder, runtime)
        exported.warm_up(batch_size)
    except BaseException:
        shutil.rmtree(parent, ignore_errors=True)
        raise
    weakref.finalize(exported, shutil.rmtree, parent, True)
    exported.original = policy
    return exported

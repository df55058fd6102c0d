"""One way to load whatever predicts chunks: a checkpoint, or an export, in a chosen runtime."""

import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dipole.data.core.errors import ConfigError
from dipole.policy.checkpoint import export_terms, find_checkpoint, load_policy, located
from dipole.policy.core.timing import least_seconds
from dipole.policy.diffusion.solvers import Solver, solver_with
from dipole.policy.policy import Policy
from dipole.policy.runtimes import RUNTIMES, cuda_graph
from dipole.policy.runtimes.exported import ExportedPolicy, is_export, load_exported, read_schema
from dipole.policy.runtimes.guidance import check_built_in, set_guidance
from dipole.policy.runtimes.inference_policy import InferencePolicy
from dipole.policy.runtimes.runtime import is_installed

EAGER, AUTO = "eager", "auto"
FASTEST = "openvino"  # what "auto" compares with eager: the fastest on every CPU measured
# When "auto" exports: it takes some seconds, the more the longer chunks take that are compared
# afterwards; and a chunk in less time than a camera's picture takes to arrive is fast enough.
WORTH_SECONDS, STEPS_AS_LONG = 20.0, 100
FAST_ENOUGH = 0.005
ONE_STEP = {"steps": 1}  # what heads without a solver do, whether they are asked to or not


def load_runnable(
    path: str | Path,
    *,
    runtime: str | None = None,
    device: torch.device | str = "cpu",
    weights: str = "ema",
    solver: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    calls: float = math.inf,
    part: str | None = None,
    guidance_scale: float | None = None,
    costs: Sequence[Mapping[str, Any]] = (),
    log: Callable[[str], None] = print,
) -> InferencePolicy:
    """The policy of a checkpoint, run or export, ready to predict batches of `batch_size`.

    runtime: None runs an export as what it is and a checkpoint eagerly; a runtime's name exports
    the checkpoint for it first, to a temporary folder; "auto" does so on a CPU where OpenVINO is
    installed and there is time to be saved, measures both, and takes the faster (the checkpoint,
    where the export does not agree with it); "cuda_graph" captures the loop on a GPU. All but those
    of low precision agree to 1e-4 of a normalised action, on a GPU to 1e-3. calls: how many batches
    will be asked for, as far as is known.
    solver: entries that replace those of the checkpoint; None entries do not. part: which dataset
    of a mixture the robot is like, see `load_policy`; an export's own. guidance_scale, costs: see
    `set_guidance`.
    """
    path = located(path)
    if is_export(path):
        check_built_in(read_schema(path), guidance_scale, costs)
        return _load_export(path, runtime, _given(solver or {}), batch_size, part)
    _check_runtime(runtime, device)
    checkpoint = find_checkpoint(path)
    policy = load_policy(checkpoint, device, weights, part)
    set_solver(policy, solver or {})
    set_guidance(policy, guidance_scale, costs)
    policy.head.freeze()
    if runtime in (None, EAGER):
        return policy
    if runtime == cuda_graph.NAME:
        from dipole.policy.runtimes.export import captured_policy

        return captured_policy(policy, batch_size)
    terms = export_terms(checkpoint, weights, part)
    if runtime == AUTO:
        return _fastest(policy, terms, batch_size, calls, log)
    return _export_to_temporary(policy, terms, str(runtime), batch_size)


def _check_runtime(runtime: str | None, device: torch.device | str) -> None:
    known = [EAGER, AUTO, *RUNTIMES.names(), cuda_graph.NAME]
    if runtime is not None and runtime not in known:
        raise ConfigError(f"unknown runtime {runtime!r}; known: {', '.join(known)}")
    if runtime in RUNTIMES.names() and torch.device(device).type != "cpu":
        raise ConfigError(f"runtime={runtime} runs on the processor: leave device={device} out")


def _fastest(
    policy: Policy,
    terms: Mapping[str, Any],
    batch_size: int,
    calls: float,
    log: Callable[[str], None],
) -> InferencePolicy:
    """The policy itself, or on a processor its export for OpenVINO, where that saves time."""
    from dipole.policy.runtimes.export import ParityError

    cannot = policy.device.type != "cpu" or policy.costs or policy.ends is not None
    if cannot or not is_installed(FASTEST):
        return policy
    seconds = _seconds_of([policy], batch_size)[EAGER]
    steps = policy.solver.steps if policy.solver is not None else 1
    worth = WORTH_SECONDS * (1 + steps / STEPS_AS_LONG)
    if seconds < FAST_ENOUGH or seconds * calls < worth:
        return policy
    try:
        exported = _export_to_temporary(policy, terms, FASTEST, batch_size)
    except ParityError as error:  # a solver's few steps may amplify what is rounded
        log(f"runtime: {EAGER}, because {error}")
        return policy
    candidates: list[InferencePolicy] = [policy, exported]
    found = _seconds_of(candidates, batch_size)
    fastest = min(candidates, key=lambda each: found[each.runtime])
    measured = ", ".join(f"{name} {1e3 * time:.1f} ms" for name, time in found.items())
    log(f"runtime: {fastest.runtime} ({measured} for a batch of {batch_size})")
    return fastest


def _seconds_of(policies: Sequence[InferencePolicy], batch_size: int) -> dict[str, float]:
    """The least time that a batch takes, by runtime, measured in turns."""
    observation = policies[0].fake_observation(batch_size)
    return least_seconds({each.runtime: partial(each.predict, observation) for each in policies})


def set_solver(policy: Policy, values: Mapping[str, Any]) -> None:
    """Replace what is given (not None) of how the policy draws chunks."""
    given = _given(values)
    if not given:
        return
    if policy.solver is None and given == ONE_STEP:
        return
    if policy.solver is None:
        raise ConfigError(f"the policy's head {policy.config.head['name']!r} has no solver to set")
    policy.solver = solver_with(policy.solver, given)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


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
    _check_solver(exported.solver, solver)
    exported.warm_up(batch_size)
    return exported


def _check_solver(built_in: Solver | None, asked_for: Mapping[str, Any]) -> None:
    """Raises ConfigError where another solver is asked for than an export's own."""
    if built_in is None:
        if asked_for and asked_for != ONE_STEP:
            raise ConfigError(f"solver={dict(asked_for)}: the exported policy has no solver")
        return
    own = built_in.to_dict()
    for key, value in solver_with(built_in, asked_for).to_dict().items():
        if own.get(key) != value:
            raise ConfigError(
                f"solver.{key}={value}: the export's solver is part of it, with "
                f"{key}={own.get(key)}; export the checkpoint again with solver.{key}={value}"
            )


def _export_to_temporary(
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
    exported.fallback = policy
    return exported

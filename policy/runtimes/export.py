"""From a policy to an artefact of a runtime, which appears whole, checked, or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.policy.core.files import atomic_directory, write_json, write_manifest
from dipole.policy.policy import Policy
from dipole.policy.runtimes import cuda_graph
from dipole.policy.runtimes.exported import FORMAT, ExportedPolicy, describe_ports, ports
from dipole.policy.runtimes.program import SamplingProgram
from dipole.policy.runtimes.runtime import require

BATCH_SIZES = (1, 16)
GPU_PARITY = 1e-3  # of a normalised action


class ParityError(DipoleError):
    """The exported program computes something else."""


def export_policy(
    policy: Policy,
    runtime: str,
    folder: Path,
    *,
    terms: Mapping[str, Any] | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> dict[str, Any]:
    """Write `policy`, with its solver, for `runtime`; returns the schema.

    terms: what else the schema should say (source, environment). batch_sizes: for aotinductor,
    which is compiled for these alone; the others take any. Raises ConfigError where `folder` exists
    or the runtime is not installed, ParityError where its chunks differ by more than the
    runtime's tolerance.
    """
    writer = require(runtime)
    if folder.exists():
        raise ConfigError(f"{folder} exists: an export is never overwritten; give another output")
    program = SamplingProgram(policy)
    schema = {
        **_describe(policy, program, runtime),
        "library": {writer.library: version(writer.library), "torch": version("torch")},
        "batch_sizes": list(batch_sizes) if runtime == "aotinductor" else "any",
        **(terms or {}),
    }
    with atomic_directory(folder) as beside:
        writer.write(program, beside, batch_sizes)
        run = writer.load(beside, ports(schema), torch.get_num_threads())
        exported = ExportedPolicy(beside, schema, run)
        schema["parity"] = _parity(policy, exported, writer.tolerance, batch_sizes[0])
        write_json(beside / "schema.json", schema)
        write_manifest(beside, FORMAT)
    return schema


def captured_policy(policy: Policy, batch_size: int) -> ExportedPolicy:
    """A policy on a GPU whose chunks are drawn by one CUDA graph, captured for this batch size.

    Raises ConfigError for a policy elsewhere, ParityError where its chunks differ from the
    policy's by more than 1e-3 of a normalised action: kernels may differ, and round otherwise.
    """
    if policy.device.type != "cuda":
        raise ConfigError(
            f"runtime={cuda_graph.NAME} captures a GPU's work, and the policy is on "
            f"{policy.device}: leave runtime out, or set device=cuda where there is one"
        )
    program = SamplingProgram(policy)
    schema = {**_describe(policy, program, cuda_graph.NAME), "batch_sizes": "any"}
    run = cuda_graph.CudaGraphs(program, policy.device)
    captured = ExportedPolicy(Path(cuda_graph.NAME), schema, run)
    schema["parity"] = _parity(policy, captured, GPU_PARITY, batch_size)
    captured.fallback = policy
    return captured


def _describe(policy: Policy, program: SamplingProgram, runtime: str) -> dict[str, Any]:
    """What a schema says, whatever the runtime."""
    return {
        **FORMAT,
        "dipole": version("dipole"),
        "runtime": runtime,
        "policy": policy.config.name,
        "inputs": describe_ports(program.inputs),
        "outputs": describe_ports([program.output]),
        "window": asdict(policy.window),
        "features": policy.features.to_dict(),
        "process": policy.config.process,
        "prediction": policy.config.prediction,
        "solver": None if policy.solver is None else policy.solver.to_dict(),
        "evaluations_per_chunk": policy.evaluations_per_chunk,
        **({} if policy.guidance_scale == 1 else {"guidance_scale": policy.guidance_scale}),
    }


def _parity(
    policy: Policy, exported: ExportedPolicy, tolerance: float, batch_size: int
) -> dict[str, Any]:
    """The largest difference from the policy itself over random inputs, in normalised actions."""
    # Far from all that it learnt from, a policy amplifies what is rounded a thousandfold.
    observation = policy.fake_observation(batch_size)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0)]
    ours = policy.predict(observation, seeds[0]).cpu()
    theirs = exported.predict(observation, seeds[1])
    seen = observation if policy.features.action.represent is not None else None
    apart = policy.normalize_action(ours, seen) - policy.normalize_action(theirs, seen)
    difference = float(apart.abs().max())
    if not difference <= tolerance:
        raise ParityError(
            f"the {exported.runtime} export differs by {difference:.1e} of a normalised action "
            f"from the policy itself, more than {tolerance:.0e}: nothing was written"
        )
    return {
        "batch_size": batch_size,
        "largest_difference": difference,
        "tolerance": tolerance,
    }

"""From a policy to an artefact of a runtime, which appears whole, checked, or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dipole.data.errors import ConfigError, DipoleError
from dipole.policy.exported import FORMAT, ExportedPolicy, describe_ports, ports
from dipole.policy.files import whole_folder, write_json, write_manifest
from dipole.policy.policy import Policy
from dipole.policy.runtimes import Runtime
from dipole.policy.runtimes.runtime import require
from dipole.policy.sampling_loop import SamplingLoop

BATCH_SIZES = (1, 16)


class ParityError(DipoleError):
    """The exported loop computes something else."""


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
    loop = SamplingLoop(policy)
    assert policy.solver is not None
    schema = {
        **FORMAT,
        "dipole": version("dipole"),
        "runtime": runtime,
        "library": {writer.library: version(writer.library), "torch": version("torch")},
        "policy": policy.config.name,
        "inputs": describe_ports(loop.inputs),
        "outputs": describe_ports([loop.output]),
        "window": asdict(policy.window),
        "features": policy.features.to_dict(),
        "solver": asdict(policy.solver),
        "batch_sizes": list(batch_sizes) if runtime == "aotinductor" else "any",
        **(terms or {}),
    }
    with whole_folder(folder) as beside:
        writer.write(loop, beside, batch_sizes)
        schema["parity"] = _parity(policy, writer, beside, schema, batch_sizes[0])
        write_json(beside / "schema.json", schema)
        write_manifest(beside, FORMAT)
    return schema


def _parity(
    policy: Policy, writer: Runtime, folder: Path, schema: dict[str, Any], batch_size: int
) -> dict[str, Any]:
    """The largest difference from the policy itself over random inputs, in normalised actions."""
    inputs = ports(schema)
    exported = ExportedPolicy(folder, schema, writer.load(folder, inputs, torch.get_num_threads()))
    observation = exported.fake_observation(batch_size)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0)]
    ours = policy.predict(observation, seeds[0]).cpu()
    theirs = exported.predict(observation, seeds[1])
    apart = policy.normalize_action(ours) - policy.normalize_action(theirs)
    difference = float(apart.abs().max())
    if not difference <= writer.tolerance:
        raise ParityError(
            f"the {schema['runtime']} export differs by {difference:.1e} of a normalised action "
            f"from the policy itself, more than {writer.tolerance:.0e}: nothing was written"
        )
    return {
        "batch_size": batch_size,
        "largest_difference": difference,
        "tolerance": writer.tolerance,
    }

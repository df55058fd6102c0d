"""An exported policy: an artefact of a runtime, with the interface of `Policy`.

DIR/
    schema.json     inputs, outputs, window, features, process, prediction, solver, environment,
                    and where it comes from
    model.*         encoder, denoising steps and normalisers, in the runtime's own format
    manifest.json   every file's size and SHA-256
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dipole.data import Features, WindowSpec
from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.policy.core.files import check_manifest, read_json
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.noise import Generators, draw_noise
from dipole.policy.diffusion.solvers import solver_from
from dipole.policy.observations import as_array, checked_observation, errors_naming, n_rows
from dipole.policy.policy import Policy
from dipole.policy.representations import Representations
from dipole.policy.runtimes.program import FRESH_NOISE, NOISE, OBSERVATION, PRESENT, Port
from dipole.policy.runtimes.runtime import Run, require

KNOWN = {"known", "prefix"}  # what a fallback computes of a request
FORMAT = {"format": "dipole export", "version": 2}


class ExportedPolicy:
    """A policy run by another runtime, an `InferencePolicy`.

    The solver is part of the artefact. The same noise gives the same chunk as the policy that was
    exported, to 1e-4 of the normalised action's unit (measured at export: see `parity`).

    fallback: The policy that it was made of, where that is at hand: for what an artefact cannot do.
    """

    device = torch.device("cpu")

    def __init__(self, folder: Path, schema: Mapping[str, Any], run: Run) -> None:
        self.folder, self.schema, self._run = folder, schema, run
        self.fallback: Policy | None = None
        self.features = Features.from_dict(schema["features"])
        self.window = WindowSpec(**schema["window"])
        self.solver = None if schema["solver"] is None else solver_from(schema["solver"])
        self.inputs = ports(schema)
        self._representations = Representations(self.features)

    @property
    def supports(self) -> frozenset[str]:
        """What may be asked of `predict`: of known parts of a chunk, what the fallback supports."""
        own = {NOISE} & {port.name for port in self.inputs}
        return frozenset(own if self.fallback is None else own | (KNOWN & self.fallback.supports))

    @property
    def max_prefix(self) -> int:
        """See `Policy.max_prefix`: the original's."""
        return 0 if self.fallback is None else self.fallback.max_prefix

    @property
    def evaluations_per_chunk(self) -> int | None:
        """How often a network is evaluated for a chunk; None where the schema does not say."""
        return self.schema.get("evaluations_per_chunk")

    @property
    def optional(self) -> list[str]:
        """What may be missing from an observation."""
        names = [port.name for port in self.inputs]
        return [name.removeprefix(PRESENT) for name in names if name.startswith(PRESENT)]

    @property
    def runtime(self) -> str:
        return str(self.schema["runtime"])

    def predict(
        self,
        observation: Mapping[str, Any],
        generator: Generators = None,
        *,
        noise: Tensor | None = None,
        fresh_noise: Tensor | None = None,
        known: KnownChunk | None = None,
    ) -> Tensor:
        """An action chunk [B, H, A], in the robot's numbers, for each row of the observation.

        observation: {name: [B, To, *stored_shape]}, in the robot's numbers. Noise is drawn in the
        same order as `Policy.predict` draws it, or given: noise [B, H, A]; fresh_noise
        [N, B, H, A], where the solver adds some. known: parts of the chunks that are given; the
        fallback computes these, eagerly. Raises ConfigError for what `checked_observation` refuses,
        as `Policy.predict` does, and for known parts where there is no fallback.
        """
        if known is not None:
            if self.fallback is None:
                raise ConfigError(
                    f"{self.folder}: an export takes no known parts of a chunk: give the checkpoint"
                )
            return self.fallback.predict(observation, generator, noise=noise, known=known)
        checked = checked_observation(observation, self.features, self.window, self.optional)
        converted = {name: self._converted(name, value) for name, value in checked.items()}
        seen = self._representations.observation(converted)
        given = {NOISE: noise, FRESH_NOISE: fresh_noise}
        rows = n_rows(checked)
        arrays = [
            _drawn(port, rows, generator, given[port.name])
            if port.name in given
            else self._observed(port, rows, seen)
            for port in self.inputs
        ]
        chunk = self._representations.decode(self._run(arrays), converted)
        return torch.from_numpy(self.features.action.invert(chunk))

    def fake_observation(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random observation of the right shapes, in the robot's numbers."""
        drawn = {
            port.name.removeprefix(OBSERVATION): port.example(batch_size)
            for port in self.inputs
            if port.name.startswith(OBSERVATION)
        }
        features = self.features.observation
        absolute = self._representations.absolute({n: v.numpy() for n, v in drawn.items()})
        return {n: torch.from_numpy(features[n].invert(v)) for n, v in absolute.items()}

    def warm_up(self, batch_size: int) -> None:
        """Compile what this batch size needs, so that its first chunk takes no longer."""
        self.predict(self.fake_observation(batch_size))

    def _converted(self, name: str, value: Tensor) -> np.ndarray:
        with errors_naming(name):
            return self.features.observation[name].apply(as_array(value))

    def _observed(self, port: Port, rows: int, observation: Mapping[str, Any]) -> np.ndarray:
        """The array of an input that is no noise; zeros for what is missing."""
        if port.name.startswith(PRESENT):
            return np.full(rows, port.name.removeprefix(PRESENT) in observation, np.float32)
        name = port.name.removeprefix(OBSERVATION)
        if name not in observation:
            return np.zeros((rows, *map(int, port.shape[1:])), port.dtype)
        return np.ascontiguousarray(observation[name])


def _drawn(port: Port, rows: int, generator: Generators, given: Tensor | None) -> np.ndarray:
    """Noise for an input; entries of fresh noise one after another, as the solver's steps."""
    if given is not None:
        return np.ascontiguousarray(as_array(given), np.float32)
    shape = (rows, *(int(size) for size in port.shape[port.batch_axis + 1 :]))
    if port.batch_axis == 0:
        return draw_noise(shape, generator).numpy()
    return torch.stack([draw_noise(shape, generator) for _ in range(int(port.shape[0]))]).numpy()


def ports(schema: Mapping[str, Any]) -> list[Port]:
    """The inputs that a schema lists."""
    return [Port(**{**entry, "shape": tuple(entry["shape"])}) for entry in schema["inputs"]]


def describe_ports(inputs: Sequence[Port]) -> list[dict[str, Any]]:
    """As JSON: see `ports`."""
    return [{**asdict(port), "shape": list(port.shape)} for port in inputs]


def is_export(path: Path) -> bool:
    return (path / "schema.json").is_file()


def read_schema(folder: Path) -> dict[str, Any]:
    """What an artefact says of itself. Raises CheckpointError for one of another version."""
    schema = read_json(folder / "schema.json")
    if {key: schema.get(key) for key in FORMAT} != FORMAT:
        raise CheckpointError(
            f"{folder / 'schema.json'}: {schema.get('format')!r} version "
            f"{schema.get('version')!r}; this dipole reads {FORMAT['format']!r} version "
            f"{FORMAT['version']}: export the checkpoint again"
        )
    return schema


def load_exported(
    path: str | Path, runtime: str | None = None, threads: int | None = None
) -> ExportedPolicy:
    """The policy of an artefact.

    runtime: which one is expected; it has to be named where the artefact is native code. threads:
    cores to use; by default as many as torch. Raises CheckpointError for files that are missing,
    damaged or of another version, ConfigError where the runtime is another or not installed.
    """
    folder = Path(path)
    schema = read_schema(folder)
    name = str(schema["runtime"])
    loader = require(name)
    if runtime not in (None, name):
        raise ConfigError(
            f"{folder} is an export for {name}, not for {runtime}: leave runtime out, or give the "
            "checkpoint"
        )
    if loader.native and runtime is None:
        raise ConfigError(
            f"{folder} holds native code, which loading it runs: if you trust where it comes from, "
            f"say runtime={name}"
        )
    check_manifest(folder)
    run = loader.load(folder, ports(schema), threads or torch.get_num_threads())
    return ExportedPolicy(folder, schema, run)

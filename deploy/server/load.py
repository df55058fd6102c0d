"""A checkpoint as a policy that is served. The only file of this folder that imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.deploy.inference.base import WARM_UP
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.inference.torch_policy import EpochNoise, as_known, load_compute
from dipole.deploy.server.batching import Batcher, BatchSettings, Row
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.server.swapping import Newest
from dipole.deploy.wire.protocol import Schema
from dipole.policy.checkpoint import export_terms, find_checkpoint, located
from dipole.policy.execution.executor import ChunkPolicy, predict_rows
from dipole.policy.runtimes.exported import ExportedPolicy, is_export

WARM_UP_CALLS = 3


class BatchedPolicy:
    """A policy that computes several requests in one call, of 1, 2, 4, ... rows, the last repeated.

    A row's chunk is that of its request alone, to rounding: products of matrices round differently
    in batches of other sizes. size: Of the largest batch.
    """

    def __init__(self, policy: ChunkPolicy, seed: int, size: int) -> None:
        self.policy, self.size = policy, size
        self._seed = seed

    def noise(self) -> EpochNoise:
        return EpochNoise(self._seed)

    def compute(self, rows: Sequence[Row]) -> list[Mapping[str, Any]]:
        answers: dict[Row, Mapping[str, Any]] = {}
        for group in _alike(rows):
            names = group[0].observation
            batch = {name: np.stack([row.observation[name] for row in group]) for name in names}
            generators = [row.noise.of(row.ticket) for row in group]
            known = None
            if group[0].known:
                known = as_known([row.known for row in group], self.policy)
            size = min(self.size, 2 ** (len(group) - 1).bit_length())
            chunks = predict_rows(self.policy, batch, generators, size, known)
            answers |= {row: {"action": chunk} for row, chunk in zip(group, chunks, strict=True)}
        return [answers[row] for row in rows]

    def warm_up(self) -> None:
        """With one row, and with as many as there may be."""
        for size in sorted({1, self.size}):
            seen: Mapping[str, Any] = self.policy.fake_observation(1)  # type: ignore[attr-defined]
            observation = {name: value[0].cpu().numpy() for name, value in seen.items()}
            for _ in range(WARM_UP_CALLS):
                self.compute([Row(WARM_UP, observation, {}, self.noise()) for _ in range(size)])


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one call: those of which nothing is known, and those guided in one way."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        guidance = {k: v for k, v in row.known.items() if k not in ("values", "weights")}
        groups.setdefault(repr((bool(row.known), guidance)), []).append(row)
    return list(groups.values())


def load_served(
    terms: FromCheckpoint, forget_after: float, batch: BatchSettings | None = None
) -> ServedPolicy:
    """What a server offers of a checkpoint, warmed up. forget_after: see ServedPolicy. batch: How
    requests of several clients are computed together.

    Raises CheckpointError and ConfigError.
    """
    settings = batch or BatchSettings()
    schema, model = load_model(terms, settings.size)
    batcher = Batcher(model, settings)
    return ServedPolicy(schema, batcher.client, forget_after, batcher=batcher)


def load_model(terms: FromCheckpoint, size: int) -> tuple[Schema, BatchedPolicy]:
    """Of a checkpoint, warmed up. Raises CheckpointError and ConfigError."""
    # A run may have a newer one by the time this one is loaded: its fingerprint is not meant.
    terms = replace(terms, checkpoint=str(_folder(terms)))
    spec, compute = load_compute(terms)
    policy: Any = compute.policy
    model = BatchedPolicy(policy, terms.seed, size)
    model.warm_up()
    dtypes = {name: str(feature.dtype) for name, feature in policy.features.observation.items()}
    return Schema(spec, dtypes, _fingerprint(policy, terms)), model


def newest_of(terms: FromCheckpoint, size: int) -> Newest:
    """What looks whether a run has a newer checkpoint than the one that is served.

    A checkpoint or export that was looked at once and is the same is not loaded again. An export is
    newer where another folder lies in its place.
    """
    seen = [_identity(_folder(terms))]

    def newest(fingerprint: str) -> tuple[Schema, BatchedPolicy] | None:
        folder = _folder(terms)
        identity = _identity(folder)
        if seen[-1] == identity:
            return None
        schema, model = load_model(replace(terms, checkpoint=str(folder)), size)
        seen[:] = [identity]
        return None if schema.fingerprint == fingerprint else (schema, model)

    return newest


def _identity(folder: Path) -> tuple[Path, int, int]:
    """Of what lies there: a folder of that name that was written later is another."""
    found = folder.stat()
    return folder, found.st_ino, found.st_mtime_ns


def _folder(terms: FromCheckpoint) -> Path:
    path = located(terms.checkpoint)
    return path.resolve() if is_export(path) else find_checkpoint(path).resolve()


def _fingerprint(policy: Any, terms: FromCheckpoint) -> str:
    """Of the weights, and the part of a mixture whose numbers they give: the same wherever, and in
    whatever runtime, they are computed."""
    if isinstance(policy, ExportedPolicy):
        source = policy.schema.get("source", {})
    else:
        found = find_checkpoint(Path(terms.checkpoint))
        source = export_terms(found, terms.weights, terms.part)["source"]
    return "/".join(filter(None, (source.get("sha256"), source.get("part"))))

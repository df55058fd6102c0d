"""A policy as what computes chunks. The only file of this folder that imports torch."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from dipole.data.core.errors import ConfigError
from dipole.deploy.chunks.prefix import check_known
from dipole.deploy.inference.base import WARM_UP
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.types import Arrays, KnownActions, Meaning, PolicySpec, Ticket
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.execution.executor import ChunkPolicy, predict_rows
from dipole.policy.runtimes import cuda_graph
from dipole.policy.runtimes.runnable import AUTO, EAGER, load_runnable

ON_GPU = (None, EAGER, AUTO, cuda_graph.NAME)  # runtimes that use one where there is one


class PolicyCompute:
    """(ticket, observation {name: [To, *shape]}) -> {"action": [H, A]}, as the executor would;
    known: parts of the chunk that are given (chunks/prefix.py).

    The noise comes from one generator, seeded anew with seed, seed + 1, ... at each epoch: as that
    of an executor's row in each episode. inference_batch_size: see Executor; 1 is the fastest for
    one robot.
    """

    def __init__(self, policy: ChunkPolicy, seed: int = 0, inference_batch_size: int = 1) -> None:
        self.policy = policy
        self._batch_size = inference_batch_size
        self._noise = EpochNoise(seed)

    def __call__(
        self, ticket: Ticket, observation: Arrays, known: KnownActions | None = None
    ) -> Mapping[str, Any]:
        generator = self._noise.of(ticket)
        batch = {name: np.asarray(value)[None] for name, value in observation.items()}
        given = as_known([known], self.policy) if known else None
        chunks = predict_rows(self.policy, batch, [generator], self._batch_size, given)
        return {"action": chunks[0]}


class EpochNoise:
    """The noise of one robot: seeded anew with seed, seed + 1, ... at each epoch."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._epoch: int | None = None
        self._generator = torch.Generator()

    def of(self, ticket: Ticket) -> torch.Generator:
        """For the chunk of this ticket; one of its own for warming up."""
        if ticket == WARM_UP:
            return torch.Generator()
        if ticket.epoch != self._epoch:
            self._epoch = ticket.epoch
            self._generator.manual_seed(self._seed)
            self._seed += 1
        return self._generator


def as_known(rows: Sequence[KnownActions], policy: Any) -> KnownChunk:
    """What is known of several chunks, as the policy takes it; their guidance is that of the first.

    Raises ConfigError for what does not fit the policy.
    """
    spec = spec_of(policy)
    guidances = [check_known(row, spec.window, spec.action_size) for row in rows]
    values = np.stack([np.asarray(row["values"], np.float32) for row in rows])  # [B, H, A]
    weights = np.stack([np.asarray(row["weights"], np.float32) for row in rows])  # [B, H]
    mask = np.broadcast_to(weights[..., None], values.shape).copy()
    return KnownChunk(torch.from_numpy(values), torch.from_numpy(mask), guidances[0])


def unknown(like: KnownActions) -> KnownActions:
    """Nothing is known, said in the shape of what is known of another chunk."""
    return {**like, "weights": np.zeros_like(like["weights"])}


def spec_of(policy: Any) -> PolicySpec:
    """What a policy sees and does, and was trained on, for who has no torch.

    In the robot's numbers: what the policy converts for its network is its own affair.
    """
    features = policy.features
    observation = {name: feature.stored_shape for name, feature in features.observation.items()}
    if len(features.action.shape) != 1:
        raise ConfigError(f"actions of shape {list(features.action.shape)} cannot be commanded")
    size = int(features.action.stored_shape[0])
    inpaints = "known" in getattr(policy, "supports", ())
    meaning = {
        name: Meaning(feature.names, feature.units, "" if feature.is_numeric else "uint8")
        for name, feature in features.named().items()
    }
    max_prefix = int(getattr(policy, "max_prefix", 0))
    return PolicySpec(observation, size, policy.window, inpaints, features.fps, meaning, max_prefix)


def load_compute(terms: FromCheckpoint) -> tuple[PolicySpec, PolicyCompute]:
    """A checkpoint's policy, in the process that computes. Raises CheckpointError, ConfigError."""
    if terms.threads is not None:
        torch.set_num_threads(terms.threads)
    device = terms.device
    if device == "auto":  # exports run on the processor
        accelerated = torch.cuda.is_available() and terms.runtime in ON_GPU
        device = "cuda" if accelerated else "cpu"
    policy = load_runnable(
        terms.checkpoint,
        runtime=terms.runtime,
        device=device,
        weights=terms.weights,
        solver=terms.solver,
        batch_size=1,
        part=terms.part,
        guidance_scale=terms.guidance_scale,
        log=partial(print, file=sys.stderr),  # scripts wait for `dipole serve`'s first line
    )
    return spec_of(policy), PolicyCompute(policy, terms.seed)

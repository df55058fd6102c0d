"""Chunks drawn for looking on: few steps, several at once, each camera's features at hand."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from dipole.policy.context import Context
from dipole.policy.encoders.cameras.cameras_encoder import CamerasEncoder, Inspect
from dipole.policy.heads.base import SampleRequest
from dipole.policy.policy import Policy

ROWS = 8  # chunks, with noise of their own
STEPS = 4  # of the policy's solver at most: where to look is decided by all of them


def repeated(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The one row of a normalised observation, ROWS times."""
    return {name: value.expand(ROWS, *value.shape[1:]) for name, value in observation.items()}


def draw_chunks(policy: Policy, context: Context) -> Tensor:
    """Normalised chunks [ROWS, H, A] for the rows of a context, always with the same noise."""
    generators = [torch.Generator().manual_seed(row) for row in range(ROWS)]
    solver = policy.solver
    if solver is not None and solver.steps > STEPS:
        solver = replace(solver, steps=STEPS)
    return policy.head.sample(context, SampleRequest(generators, solver=solver))


@contextmanager
def inspecting(policy: Policy, inspect: Inspect) -> Iterator[None]:
    """Within, every part of the encoder that encodes cameras calls `inspect`."""
    parts = [each for each in policy.encoder.modules() if isinstance(each, CamerasEncoder)]
    for part in parts:
        part.inspect = inspect
    try:
        yield
    finally:
        for part in parts:
            part.inspect = None

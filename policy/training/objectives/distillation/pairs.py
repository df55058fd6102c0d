"""Pairs of noise and what the teacher's ODE makes of it, drawn anew or kept for some steps."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.diffusion.processes.base import Process
from dipole.policy.diffusion.solvers import DDIM, Solver
from dipole.policy.diffusion.solvers.jump import TRAILING
from dipole.policy.heads.base import SampleRequest
from dipole.policy.heads.diffusion import DiffusionHead

PARTS = ("vector", "tokens", "token_mask", "frames")  # of a context


class Pairs(NamedTuple):
    """noise: Standard normal, [B, H, A]. chunk: What the ODE makes of it. context: Given which."""

    noise: Tensor
    chunk: Tensor
    context: Context


class PairPool(nn.Module):
    """The newest pairs, a bounded number, in buffers: what is saved and resumed with a run.

    size: Pairs that are kept; 0: none.
    reuse: How often a pair is drawn, on average; of a batch 1 / reuse is new.
    like: One pair, of these shapes and kinds.
    """

    written: Tensor

    def __init__(self, size: int, reuse: int, like: Pairs) -> None:
        super().__init__()
        if size < 0 or reuse < 1:
            raise ConfigError(
                f"objective.pool is {size}, reuse {reuse}: at least 0, and at least 1, are needed"
            )
        self.size, self.reuse = size, reuse if size else 1
        self._parts = [part for part in PARTS if getattr(like.context, part) is not None]
        if not size:
            return
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))
        for name, each in self._named(like):
            self.register_buffer(name, each.new_zeros(size, *each.shape[1:]))

    def new_rows(self, rows: int) -> int:
        """How many of a batch's rows are to be made anew."""
        return rows if not self.size else min(rows, max(1, rows // self.reuse))

    def put(self, pairs: Pairs) -> None:
        """Keep these instead of the oldest ones."""
        if not self.size:
            return
        rows = len(pairs.noise)
        places = (self.written + torch.arange(rows, device=self.written.device)) % self.size
        for name, each in self._named(pairs):
            kept = self.get_buffer(name)
            if each.shape[1:] != kept.shape[1:]:
                raise ConfigError(
                    f"objective.pool={self.size}: contexts differ in shape from batch to batch "
                    f"({list(each.shape[1:])}, {list(kept.shape[1:])}): set pool=0"
                )
            kept[places] = each.to(kept.dtype)
        self.written += rows

    def draw(self, rows: int) -> Pairs:
        """Any that are kept, each as likely."""
        filled = self.written.clamp(max=self.size)
        which = (torch.rand(rows, device=self.written.device) * filled).long()
        found = {name: self.get_buffer(name)[which] for name in ("noise", "chunk", *self._parts)}
        noise, chunk = found.pop("noise"), found.pop("chunk")
        return Pairs(noise, chunk, Context(**found))

    def _named(self, pairs: Pairs) -> list[tuple[str, Tensor]]:
        context = [(part, getattr(pairs.context, part)) for part in self._parts]
        return [("noise", pairs.noise), ("chunk", pairs.chunk), *context]


@torch.no_grad()
def drawn_pairs(teacher: DiffusionHead, context: Context, steps: int) -> Pairs:
    """New pairs, a row of the context each. steps: Of Euler's method along the teacher's ODE."""
    shape = (context.rows, teacher.horizon, teacher.action_dim)
    noise = torch.randn(shape, device=context.device)
    context = context.map(lambda part: part.detach())
    solver = ode_solver(teacher.process, steps)
    chunk = teacher.sample(context, SampleRequest(noise=noise, solver=solver))
    return Pairs(noise, chunk, context)


def joined(one: Pairs, other: Pairs) -> Pairs:
    noise, chunk = (torch.cat(both) for both in zip(one[:2], other[:2], strict=True))
    return Pairs(noise, chunk, Context.stack([one.context, other.context]))


def ode_solver(process: Process, steps: int) -> Solver:
    """Euler's method along the probability-flow ODE, from the most noise on."""
    trailing = TRAILING in process.spacings(7.0, 3.0)
    return DDIM(steps, TRAILING if trailing else None)

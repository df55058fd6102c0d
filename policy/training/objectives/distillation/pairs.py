"""Pairs of noise and what the teacher's ODE makes of it, drawn anew or kept for some steps."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context
from dipole.policy.diffusion.classifier_free import Unconditional
from dipole.policy.diffusion.processes.base import Process
from dipole.policy.diffusion.solvers import DDIM, Solver
from dipole.policy.heads.base import SampleRequest
from dipole.policy.heads.diffusion import DiffusionHead
from dipole.policy.policy import Policy
from dipole.policy.training.objectives.distillation.given import Given

PARTS = ("vector", "tokens", "token_mask", "frames")  # of a context


class Pairs(NamedTuple):
    """noise: Standard normal, [B, H, A]. chunk: What the ODE makes of it. context: The student's,
    given which it learns that."""

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
def drawn_pairs(teacher: Policy, given: Given, steps: int) -> Pairs:
    """New pairs, a row of the contexts each, guided as the teacher is. steps: Of Euler's method
    along the teacher's ODE."""
    head, context, without = teacher.head, given.context, given.unconditional
    assert isinstance(head, DiffusionHead)
    # Of all rows, some of which are taken: of a batch that processes share each draws its own.
    noise, guidance = torch.randn_like(given.clean)[: context.rows], None
    if without is not None and teacher.guidance is not None:
        guidance = Unconditional(without, teacher.guidance.scale, teacher.guidance.passes)
    solver = ode_solver(head.process, steps)
    request = SampleRequest(noise=noise, solver=solver, guidance=guidance)
    chunk = head.sample(given.of_teacher, request)
    return Pairs(noise, chunk, context.map(lambda part: part.detach()))


def joined(one: Pairs, other: Pairs) -> Pairs:
    noise, chunk = (torch.cat(both) for both in zip(one[:2], other[:2], strict=True))
    return Pairs(noise, chunk, Context.stack([one.context, other.context]))


def ode_solver(process: Process, steps: int) -> Solver:
    """Euler's method along the probability-flow ODE, from the most noise on."""
    return DDIM(steps, process.full_spacing)

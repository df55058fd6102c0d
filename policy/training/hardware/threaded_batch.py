"""A denoiser's batch divided among threads: each computes some rows, forward and backward.

    batch [B] ─┬─> thread 0: rows 0 .. B/2-1, on one core ─┬─> outputs, one after another
               └─> thread 1: rows B/2 .. B-1, on the other ┘   gradients of the weights, summed

Threads inside an operation (OpenMP) meet at the end of each of a thousand small ones; these meet
twice in a step. PyTorch's operations leave Python's lock while they compute. Results do not depend
on which thread is faster: outputs keep their order, and gradients are added in the same one.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from dipole.policy.context import Context
from dipole.policy.core.derivatives import (
    first_derivative_only,
    needs_plain_operations,
)
from dipole.policy.core.threads import Threads
from dipole.policy.denoisers.base import Denoiser

Tensors = Sequence[Tensor | None]
LEAST_ROWS = 8  # of a thread; a smaller batch is not divided


@contextmanager
def threaded_batch(policy: nn.Module, threads: int) -> Iterator[None]:
    """While it lasts, the policy's denoisers compute gradients in so many threads.

    Denoisers say by `rows_are_independent` that their batch can be divided. Without gradients
    nothing is divided.
    """
    denoisers = _divisible(policy)
    if threads < 2 or not denoisers:
        yield
        return
    with ThreadPoolExecutor(threads, "rows", torch.set_num_threads, (1,)) as pool:
        for denoiser in denoisers:
            denoiser.batch_runner = BatchRunner(denoiser, pool, threads)
        try:
            yield
        finally:
            for denoiser in denoisers:
                del denoiser.batch_runner


def is_divisible(policy: nn.Module) -> bool:
    """Whether it has a denoiser whose rows threads can share."""
    return bool(_divisible(policy))


def thread_choices(policy: nn.Module, cores: int, divide: bool = True) -> list[Threads]:
    """The ways to use a processor's cores that are worth trying."""
    choices = [Threads(1), Threads(cores)]
    if divide and is_divisible(policy):
        choices.append(Threads(1, batch=cores))
        inside = {id(p) for denoiser in _divisible(policy) for p in denoiser.parameters()}
        if any(p.requires_grad and id(p) not in inside for p in policy.parameters()):
            choices.append(Threads(cores, batch=cores))  # for the encoder, which is not divided
    return list(dict.fromkeys(choices))


def _divisible(policy: nn.Module) -> list[Denoiser]:
    return [m for m in policy.modules() if isinstance(m, Denoiser) and m.rows_are_independent]


class BatchRunner:
    """Calls a denoiser's `forward` for some of the rows in each thread."""

    def __init__(self, denoiser: Denoiser, pool: Executor, threads: int) -> None:
        self.denoiser, self.pool, self.threads = denoiser, pool, threads
        self.parameters = [p for p in denoiser.parameters() if p.requires_grad]

    def __call__(
        self,
        x: Tensor,
        time: Tensor | int,
        context: Context | Tensor,
        residuals: Sequence[Tensor] = (),
    ) -> Tensor:
        rows = len(x)
        too_few = rows < self.threads * LEAST_ROWS
        if not torch.is_grad_enabled() or too_few or needs_plain_operations():
            return self.denoiser.forward(x, time, context, residuals)  # type: ignore[arg-type]
        time = torch.as_tensor(time, device=x.device)
        time = time.expand(rows, *time.shape[1:])
        context = context if isinstance(context, Context) else Context(context)
        inputs = [x, time, *(getattr(context, field.name) for field in fields(Context)), *residuals]
        # An objective may fix them for an update of others.
        trained = [p for p in self.parameters if p.requires_grad]
        call = _Call(self.denoiser, self.pool, self.threads, trained, len(inputs))
        out: Tensor = _RowsInThreads.apply(call, *inputs, *trained)  # type: ignore[no-untyped-call]
        return out


@dataclass(frozen=True)
class _Call:
    """One call of the denoiser. parameters: those with gradients; n_inputs: tensors before them."""

    denoiser: Denoiser
    pool: Executor
    threads: int
    parameters: Sequence[nn.Parameter]
    n_inputs: int

    def run(self, inputs: Tensors) -> Tensor:
        """`forward` of some rows. inputs: chunk, time, the context's parts, then residuals."""
        x, time, *rest = inputs
        n_parts = len(fields(Context))
        context, residuals = Context(*rest[:n_parts]), [r for r in rest[n_parts:] if r is not None]
        assert x is not None
        assert time is not None
        return self.denoiser.forward(x, time, context, residuals)

    def map(self, work: Any, *each: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(work, *each))


class _RowsInThreads(torch.autograd.Function):
    """(call, inputs, then parameters) -> outputs. Each part of the rows has a graph of its own."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad[1 : 1 + call.n_inputs]
        device = tensors[0].device.type if tensors[0] is not None else "cpu"
        mixed, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        def compute(inputs: Tensors) -> tuple[list[Tensor], Tensor]:
            # Both of these are the calling thread's own.
            with torch.enable_grad(), torch.autocast(device, dtype, enabled=mixed):
                output = call.run(inputs)
            return [x for x in inputs if x is not None and x.requires_grad], output

        parts = _split(tensors[: call.n_inputs], wanted, call.threads)
        ctx.parts, ctx.call, ctx.wanted = call.map(compute, parts), call, wanted
        return torch.cat([output.detach() for _, output in ctx.parts])

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.parts is None:
            raise RuntimeError(
                "the gradient was computed before, and what it needs was freed: the first time, "
                "give retain_graph=True"
            )
        call: _Call = ctx.call
        keeps = _keeps_graph()
        lengths = [len(output) for _, output in ctx.parts]

        def differentiate(part: tuple[list[Tensor], Tensor], grad: Tensor) -> tuple[Any, ...]:
            inputs, output = part
            towards = [*inputs, *call.parameters]
            return torch.autograd.grad(output, towards, grad, retain_graph=keeps, allow_unused=True)

        found = call.map(differentiate, ctx.parts, torch.split(grads[0], lengths))
        if not keeps:
            ctx.parts = None
        by_tensor = list(zip(*found, strict=True))
        n_wanted = sum(ctx.wanted)
        of_inputs = iter([_joined(each) for each in by_tensor[:n_wanted]])
        inputs = [next(of_inputs) if wanted else None for wanted in ctx.wanted]
        return (None, *inputs, *(_added(each) for each in by_tensor[n_wanted:]))


def _keeps_graph() -> bool:
    """Whether the backward pass that runs now was asked to retain its graph; not, where this torch
    cannot tell."""
    asked = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", bool)
    return bool(asked())


def _split(inputs: Tensors, wanted: Sequence[bool], parts: int) -> list[list[Tensor | None]]:
    """Each part's rows of every input, cut off from the graph that they came from."""
    split = [[None] * parts if x is None else list(x.detach().tensor_split(parts)) for x in inputs]
    for pieces, needed in zip(split, wanted, strict=True):
        for piece in pieces:
            if piece is not None and needed:
                piece.requires_grad_()
    return [list(part) for part in zip(*split, strict=True)]


def _joined(pieces: Tensors) -> Tensor | None:
    present = [piece for piece in pieces if piece is not None]
    return torch.cat(present) if present else None


def _added(grads: Tensors) -> Tensor | None:
    present = [grad for grad in grads if grad is not None]
    return sum(present[1:], start=present[0]) if present else None

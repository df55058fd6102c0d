"""A denoiser's rows shared among threads: each computes some of the batch, forward and backward.

    batch [B] ─┬─> thread 0: rows 0 .. B/2-1, on one core ─┬─> outputs, one after another
               └─> thread 1: rows B/2 .. B-1, on the other ┘   gradients of the weights, summed

Threads inside an operation (OpenMP) meet at the end of each of a thousand small ones; these meet
twice in a step. PyTorch's operations leave Python's lock while they compute. Results do not depend
on which thread is faster: outputs keep their order, and gradients are added in the same one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from dipole.policy.context import Context
from dipole.policy.core.threads import Threads
from dipole.policy.denoisers.cpu_unet.derivatives import (
    first_derivative_only,
    needs_plain_operations,
)

Tensors = Sequence[Tensor | None]
LEAST_ROWS = 8  # of a thread; a smaller batch is not divided


@contextmanager
def rows_in_threads(policy: nn.Module, threads: int) -> Iterator[None]:
    """While it lasts, the policy's denoisers compute gradients in so many threads.

    Denoisers say that they can be divided by `rows_are_independent`: no row's output depends on
    another row, and none on random numbers. Without gradients nothing is divided.
    """
    denoisers = _divisible(policy)
    if threads < 2 or not denoisers:
        yield
        return
    with ThreadPoolExecutor(threads, "rows", torch.set_num_threads, (1,)) as pool:
        for denoiser in denoisers:
            # The instance's own `forward` is found before that of its class.
            denoiser.__dict__["forward"] = _Divided(denoiser, pool, threads)
        try:
            yield
        finally:
            for denoiser in denoisers:
                del denoiser.__dict__["forward"]


def is_divisible(policy: nn.Module) -> bool:
    """Whether it has a denoiser whose rows threads can share."""
    return bool(_divisible(policy))


def thread_choices(policy: nn.Module, cores: int, divide: bool = True) -> list[Threads]:
    """The ways to use a processor's cores that are worth trying."""
    choices = [Threads(1), Threads(cores)]
    if divide and is_divisible(policy):
        choices.append(Threads(1, rows=cores))
        inside = {id(p) for denoiser in _divisible(policy) for p in denoiser.parameters()}
        if any(p.requires_grad and id(p) not in inside for p in policy.parameters()):
            choices.append(Threads(cores, rows=cores))  # for the encoder, which is not divided
    return list(dict.fromkeys(choices))


def _divisible(policy: nn.Module) -> list[nn.Module]:
    return [m for m in policy.modules() if getattr(m, "rows_are_independent", False)]


class _Divided:
    """Stands in for a denoiser's `forward`."""

    def __init__(self, denoiser: nn.Module, pool: ThreadPoolExecutor, threads: int) -> None:
        self.whole: Callable[..., Tensor] = denoiser.forward
        self.parameters = [p for p in denoiser.parameters() if p.requires_grad]
        self.pool, self.threads = pool, threads

    def __call__(self, chunk: Tensor, time: Tensor | int, context: Context | Tensor) -> Tensor:
        rows = len(chunk)
        too_few = rows < self.threads * LEAST_ROWS
        if not torch.is_grad_enabled() or too_few or needs_plain_operations():
            return self.whole(chunk, time, context)
        time = torch.as_tensor(time, device=chunk.device)
        time = time.expand(rows, *time.shape[1:])
        self.template = context
        given = [chunk, time, *_tensors_of(context)]
        out: Tensor = _RowsInThreads.apply(self, len(given), *given, *self.parameters)  # type: ignore[no-untyped-call]
        return out

    def part(self, given: Tensors) -> Tensor:
        chunk, time, *context = given
        return self.whole(chunk, time, _context_of(self.template, context))

    def map(self, work: Callable[..., Any], *each: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(work, *each))


class _RowsInThreads(torch.autograd.Function):
    """inputs, then parameters -> outputs. Each part has a graph of its own."""

    @staticmethod
    def forward(ctx: Any, divided: _Divided, n_inputs: int, *tensors: Tensor | None) -> Tensor:
        wanted = ctx.needs_input_grad[2 : 2 + n_inputs]
        device = tensors[0].device.type if tensors[0] is not None else "cpu"
        mixed, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        def compute(inputs: Tensors) -> tuple[list[Tensor], Tensor]:
            # Both of these are the calling thread's own.
            with torch.enable_grad(), torch.autocast(device, dtype, enabled=mixed):
                output = divided.part(inputs)
            return [x for x in inputs if x is not None and x.requires_grad], output

        parts = _split(tensors[:n_inputs], wanted, divided.threads)
        ctx.parts, ctx.divided, ctx.wanted = divided.map(compute, parts), divided, wanted
        return torch.cat([output.detach() for _, output in ctx.parts])

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.parts is None:
            raise RuntimeError(
                "the gradient was computed before, and what it needs was freed: the first time, "
                "give retain_graph=True"
            )
        divided: _Divided = ctx.divided
        keeps = _keeps_graph()
        lengths = [len(output) for _, output in ctx.parts]

        def differentiate(part: tuple[list[Tensor], Tensor], grad: Tensor) -> tuple[Any, ...]:
            inputs, output = part
            towards = [*inputs, *divided.parameters]
            return torch.autograd.grad(output, towards, grad, retain_graph=keeps, allow_unused=True)

        found = divided.map(differentiate, ctx.parts, torch.split(grads[0], lengths))
        if not keeps:
            ctx.parts = None
        n_wanted = sum(ctx.wanted)
        of_inputs = iter([_joined(each) for each in zip(*found, strict=True)][:n_wanted])
        of_parameters = [_added(each) for each in list(zip(*found, strict=True))[n_wanted:]]
        inputs = [next(of_inputs) if wanted else None for wanted in ctx.wanted]
        return (None, None, *inputs, *of_parameters)


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


def _tensors_of(context: Context | Tensor) -> list[Tensor | None]:
    if isinstance(context, Tensor):
        return [context]
    return [getattr(context, field.name) for field in fields(context)]


def _context_of(template: Context | Tensor, tensors: Tensors) -> Any:
    """A context like the template, of these tensors."""
    if isinstance(template, Tensor):
        return tensors[0]
    given: dict[str, Any] = {
        field.name: tensor for field, tensor in zip(fields(template), tensors, strict=True)
    }
    return replace(template, **given)

"""A denoiser as TorchScript, for several threads of one process.

A denoiser is hundreds of small operations. After each of them a thread of Python waits for the
interpreter's lock, so that two threads that infer beside each other take longer than one after the
other. TorchScript runs the same operations without the interpreter: the same bits, on as many cores
as there are threads, and sooner on a single one.
"""

import copy
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dipole.policy.context import Context
from dipole.policy.core.nested import Rebuild, flatten
from dipole.policy.denoisers.base import Denoiser, DenoiserWrapper, Prepared
from dipole.policy.policy import Policy

WORTH_CALLS = 40  # evaluations of the network; tracing takes as long as about so many

Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


def without_interpreter(policy: Any) -> Any:
    """The policy with the same weights and chunks, whose denoiser runs as TorchScript once it was
    evaluated `WORTH_CALLS` times. Traces are kept with the denoiser.

    The policy itself on a GPU, and where it has no denoiser. A denoiser may branch on shapes, not
    on numbers.
    """
    denoiser = getattr(getattr(policy, "head", None), "denoiser", None)
    if not isinstance(policy, Policy) or not isinstance(denoiser, Denoiser):
        return policy
    if policy.device.type != "cpu":
        return policy
    traces = _TRACES.setdefault(denoiser, Traces())
    traces.forget_changed(denoiser)
    return _with_module(
        policy, "head", _with_module(policy.head, "denoiser", Traced(denoiser, traces))
    )


@dataclass(frozen=True)
class Trace:
    """run: tensors -> prediction, or None where it cannot be traced, or gives other bits so.

    examples: What it was traced with.
    """

    run: Any
    examples: tuple[Tensor, ...]
    rebuild: Rebuild

    def agrees(self, denoiser: Denoiser, tensors: Sequence[Tensor]) -> bool:
        """Whether it gives the denoiser's bits."""
        return torch.equal(self(*tensors), denoiser.predict(*self.rebuild(tensors)))

    def __call__(self, *tensors: Tensor) -> Tensor:
        # As it is, from the first call on: nothing is rewritten meanwhile.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            out: Tensor = self.run(*tensors)
            return out


class Traces:
    """A denoiser's traces, by the shapes of what it is given; safe to share among threads."""

    def __init__(self) -> None:
        self._found: dict[Shapes, Trace] = {}
        self._calls: dict[Shapes, int] = {}
        self._lock = threading.Lock()

    def find(self, denoiser: Denoiser, tensors: Sequence[Tensor], rebuild: Rebuild) -> Trace | None:
        """The trace for tensors of these shapes; None until it is worth while, and where there is
        none."""
        shapes = tuple((each.shape, each.dtype) for each in tensors)
        with self._lock:
            if shapes not in self._found:
                self._calls[shapes] = self._calls.get(shapes, 0) + 1
                if self._calls[shapes] <= WORTH_CALLS:
                    return None
                self._found[shapes] = _traced(denoiser, tuple(tensors), rebuild)
            found = self._found[shapes]
        return None if found.run is None else found

    @torch.no_grad()
    def forget_changed(self, denoiser: Denoiser) -> None:
        """Drop what is not the denoiser any more, whose parameters were replaced meanwhile."""
        with self._lock:
            for shapes, trace in list(self._found.items()):
                if trace.run is not None and not trace.agrees(denoiser, trace.examples):
                    del self._found[shapes]


_TRACES: WeakKeyDictionary[Denoiser, Traces] = WeakKeyDictionary()


class Traced(DenoiserWrapper):
    """A denoiser with traces of its `predict`.

    Where gradients or residuals are asked for, it is the denoiser as it is.
    """

    def __init__(self, denoiser: Denoiser, traces: Traces) -> None:
        super().__init__(denoiser)
        self._traces = traces
        self.extrapolates = denoiser.extrapolates

    def forward(
        self, x: Tensor, time: Tensor, context: Context, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        out: Tensor = self.denoiser(x, time, context, residuals)
        return out

    def predict(
        self, x: Tensor, time: Prepared, context: Prepared, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        if not torch.is_grad_enabled() and not residuals:
            named, rebuild = flatten((x, time, context))
            tensors = tuple(named.values())
            if (trace := self._traces.find(self.denoiser, tensors, rebuild)) is not None:
                return trace(*tensors)
        return self.denoiser.predict(x, time, context, residuals)


class _Predict(nn.Module):
    """`Denoiser.predict` of tensors alone."""

    def __init__(self, denoiser: Denoiser, rebuild: Rebuild) -> None:
        super().__init__()
        self.denoiser, self._rebuild = denoiser, rebuild

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.denoiser.predict(*self._rebuild(tensors))


def _traced(denoiser: Denoiser, examples: tuple[Tensor, ...], rebuild: Rebuild) -> Trace:
    others = tuple(each * 0.9 if each.is_floating_point() else each for each in examples)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the tracer's deprecation
            run = torch.jit.trace(  # type: ignore[no-untyped-call]
                _Predict(denoiser, rebuild), examples, check_trace=False
            )
        trace = Trace(run, examples, rebuild)
        if all(trace.agrees(denoiser, each) for each in (examples, others)):
            return trace
    except RuntimeError:
        pass
    return Trace(None, examples, rebuild)


def _with_module(parent: Any, name: str, child: nn.Module) -> Any:
    """A copy of a module with another child, which shares everything else."""
    clone = copy.copy(parent)
    clone._modules = {**parent._modules, name: child}
    return clone

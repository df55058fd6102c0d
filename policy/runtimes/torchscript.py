"""A denoiser as TorchScript, for several threads of one process.

A denoiser is hundreds of small operations. After each of them a thread of Python waits for the
interpreter's lock, so that two threads that infer beside each other take longer than one after the
other. TorchScript runs the same operations without the interpreter: the same bits, on as many cores
as there are threads.
"""

import copy
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dipole.policy.context import Context
from dipole.policy.core.nested import Rebuild, flatten
from dipole.policy.denoisers.base import Denoiser, Prepared
from dipole.policy.policy import Policy


def without_interpreter(policy: Any, batch_size: int) -> Any:
    """The policy with the same weights and chunks, whose denoiser runs as TorchScript.

    The policy itself on a GPU, where it has no denoiser, where that cannot be traced, or where it
    then gives other bits. A denoiser may branch on shapes, not on numbers.
    """
    denoiser = getattr(getattr(policy, "head", None), "denoiser", None)
    if not isinstance(policy, Policy) or not isinstance(denoiser, Denoiser):
        return policy
    if policy.device.type != "cpu":
        return policy
    traced = _with_module(policy, "head", _with_module(policy.head, "denoiser", Traced(denoiser)))
    observation = policy.fake_observation(batch_size)
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0, 0)]
    expected = policy.predict(observation, seeds[0])
    try:
        # TorchScript rewrites a graph after its first call.
        same = [torch.equal(traced.predict(observation, seed), expected) for seed in seeds[1:]]
    except RuntimeError:
        return policy
    return traced if all(same) else policy


class Traced(Denoiser):
    """A denoiser whose `predict` is traced, once for each shape of what it is given.

    Where gradients or residuals are asked for, it is the denoiser as it is.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._traces: dict[tuple[Any, ...], Any] = {}
        self._tracing = threading.Lock()

    def forward(
        self, x: Tensor, time: Tensor, context: Context, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        out: Tensor = self.denoiser(x, time, context, residuals)
        return out

    def prepare_time(self, times: Tensor) -> Prepared:
        return self.denoiser.prepare_time(times)

    def prepare_context(self, context: Context) -> Prepared:
        return self.denoiser.prepare_context(context)

    def predict(
        self, x: Tensor, time: Prepared, context: Prepared, residuals: Sequence[Tensor] = ()
    ) -> Tensor:
        if torch.is_grad_enabled() or residuals:
            return self.denoiser.predict(x, time, context, residuals)
        named, rebuild = flatten((x, time, context))
        tensors = tuple(named.values())
        key = tuple((each.shape, each.dtype) for each in tensors)
        with self._tracing:
            if key not in self._traces:
                self._traces[key] = _trace(_Predict(self.denoiser, rebuild), tensors)
        out: Tensor = self._traces[key](*tensors)
        return out


class _Predict(nn.Module):
    """`Denoiser.predict` of tensors alone."""

    def __init__(self, denoiser: Denoiser, rebuild: Rebuild) -> None:
        super().__init__()
        self.denoiser, self._rebuild = denoiser, rebuild

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.denoiser.predict(*self._rebuild(tensors))


def _trace(module: nn.Module, examples: Sequence[Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the tracer's deprecation
        return torch.jit.trace(  # type: ignore[no-untyped-call]
            module, tuple(examples), check_trace=False
        )


def _with_module(parent: Any, name: str, child: nn.Module) -> Any:
    """A copy of a module with another child, which shares everything else."""
    clone = copy.copy(parent)
    clone._modules = {**parent._modules, name: child}
    return clone

"""Derivatives beyond the first: when networks compute in PyTorch's own operations.

Fast paths on a CPU (of the U-Net and of convolutions over pictures) have backward passes of their
own, which cannot be differentiated again, which raises an error, nor forwards. Within
`any_derivatives` the reference computes, which can, in two to three times the time:

    with any_derivatives():
        out = denoiser(chunk, time, context)
        (slope,) = torch.autograd.grad(out.sum(), chunk, create_graph=True)
        (loss + slope.square().mean()).backward()

Under transforms of torch.func (jvp, grad, vmap) and dual numbers it is so without being asked.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

_asked_for: ContextVar[bool] = ContextVar("any_derivatives", default=False)


Backward = TypeVar("Backward", bound=Callable[..., Any])


def first_derivative_only(backward: Backward) -> Backward:
    """Of an autograd.Function whose backward pass cannot be differentiated: an error where it is to
    be. torch's `once_differentiable` raises only where the whole graph is walked; towards given
    inputs, with other ways to them, it leaves these parts out in silence."""

    @wraps(backward)
    def checked(*arguments: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "the gradient of this layer cannot be differentiated again: compute what you "
                "differentiate with create_graph=True within "
                "dipole.policy.denoisers.any_derivatives()"
            )
        return backward(*arguments)

    return checked  # type: ignore[return-value]


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """What the function gives; without gradients from its forward pass alone, which costs less and
    can be traced."""
    if torch.is_grad_enabled():
        return function.apply(*arguments)  # type: ignore[no-untyped-call]
    return function.forward(_NothingSaved(), *arguments)


class _NothingSaved:
    """The context of an autograd.Function that has no backward pass."""

    def save_for_backward(self, *tensors: Any) -> None:
        pass


@contextmanager
def any_derivatives() -> Iterator[None]:
    """What networks compute within it can be differentiated in every way that PyTorch has."""
    token = _asked_for.set(True)
    try:
        yield
    finally:
        _asked_for.reset(token)


def needs_plain_operations() -> bool:
    """Whether the operations that run now may be differentiated otherwise than once, backwards."""
    return _asked_for.get() or _is_transformed() or forward_ad._current_level >= 0


# PyTorch's own autograd.Function asks the same; a release without it has no transforms to ask for.
_is_transformed = getattr(torch._C, "_are_functorch_transforms_active", bool)

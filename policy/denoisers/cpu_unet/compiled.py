"""Norms fused by torch.compile: each way in one or two passes over memory instead of twenty.

All of a network compiled so takes minutes to compile and gains no more: what is left are products,
which libraries compute (docs/performance.md), and torch.compile cannot follow those of ours.
"""

import os
import shutil
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.denoisers.cpu_unet.temporal import NormKernels, TemporalNorm, per_group

SHAPES = 64  # of activations that are compiled for, at most; torch's own limit is 8
LIMITS = ("recompile_limit", "cache_size_limit")  # of older releases: their names, newest first


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which fused operations need, on a GPU to be launched."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)


def compile_norms(model: nn.Module) -> None:
    """Have the norms of a model compute their gradients by fused operations.

    Each shape is compiled when it is first seen, in some seconds, and kept for later processes in
    torch's own cache. Results are the same to rounding. Raises ConfigError without a compiler.
    """
    if not has_compiler():
        raise ConfigError(
            "train.compile=true needs a C++ compiler, and neither g++ nor clang++ is there: "
            "install one (apt install g++), or set train.compile=false"
        )
    # The number of threads is chosen after compiling, and is another one in threads of rows.
    options: dict[str, Any] = {"cpp.dynamic_threads": True}
    wanted: dict[str, Any] = {"dynamic": False, "options": options}
    if "recompile_limit" in signature(torch.compile).parameters:  # torch 2.13
        wanted["recompile_limit"] = SHAPES
    else:
        _allow_shapes()
    forward, backward = (
        torch.compile(kernel, **wanted) for kernel in (norm_mish, norm_mish_gradients)
    )
    for module in model.modules():
        if isinstance(module, TemporalNorm):
            module.kernels = NormKernels(forward, backward)


def _allow_shapes() -> None:
    """Raise the limit for the whole process, where it cannot be given for each function."""
    from torch._dynamo import config

    for name in LIMITS:
        if hasattr(config, name):
            setattr(config, name, max(getattr(config, name), SHAPES))
            return


def norm_mish(
    x: Tensor,
    shift: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    offset: Tensor | None,
    n_groups: int,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """As temporal.norm_mish, without its arrangements for memory: compilers make better ones."""
    frames = x.shape[0]
    sums = x.sum(0) + frames * shift
    mean = per_group(sums, n_groups, frames)
    centred = x + (shift - mean)
    inverse = torch.rsqrt(per_group((centred * centred).sum(0), n_groups, frames) + eps)
    normal = centred * (inverse * weight) + bias
    e = torch.exp(normal.clamp(max=40))
    d = 1 / (1 + (1 + e) * (1 + e))
    gate = 1 - 2 * d
    slope = gate + 4 * e * (1 + e) * d * d * normal
    active, left = normal * gate, sums - frames * mean
    if scale is None or offset is None:
        return active, None, centred, inverse, slope, left
    return active * scale + offset, active, centred, inverse, slope, left


def norm_mish_gradients(
    grad_out: Tensor,
    active: Tensor | None,
    centred: Tensor,
    inverse: Tensor,
    slope: Tensor,
    left: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    n_groups: int,
) -> tuple[Tensor | None, ...]:
    """As temporal.norm_mish_gradients."""
    frames = centred.shape[0]
    if active is None or scale is None:
        grad, grad_scale, grad_offset = grad_out * slope, None, None
    else:
        grad_scale, grad_offset = (grad_out * active).sum(0), grad_out.sum(0)
        grad = grad_out * scale * slope
    grad_sum, dot = grad.sum(0), (grad * centred).sum(0) * inverse
    of_mean = -inverse * per_group(grad_sum * weight, n_groups, frames)
    of_centred = inverse * inverse * per_group(dot * weight, n_groups, frames)
    of_grad = inverse * weight
    grad_x = of_mean + grad * of_grad - centred * of_centred
    grad_shift = (frames * of_mean + grad_sum * of_grad - left * of_centred).sum(0)
    return grad_x, grad_shift, dot.sum(0), grad_sum.sum(0), grad_scale, grad_offset

"""`train.compile`: what torch.compile makes faster of the U-Nets in a model.

On a CPU the norms of the fast path, each pass over memory once or twice instead of twenty times.
All of a network takes minutes to compile there and gains no more: what is left are products, which
libraries compute (docs/performance.md). Elsewhere it is all of the reference.
"""

import os
import shutil
from inspect import signature
from typing import Any

import torch
from torch import nn

from dipole.data.core.errors import ConfigError
from dipole.policy.denoisers.cpu_unet.fast_path import CpuFastPath
from dipole.policy.denoisers.cpu_unet.norm_mish import (
    NormKernels,
    norm_mish,
    norm_mish_backward,
)

SHAPES = 64  # of activations that are compiled for, at most; torch's own limit is 8
LIMITS = ("recompile_limit", "cache_size_limit")  # of older releases: their names, newest first


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which fused operations need, on a GPU to be launched."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)


def compile_unets(model: nn.Module) -> None:
    """Have the U-Nets of a model compute by fused operations in training.

    Each shape is compiled when it is first seen, in some seconds, and kept for later processes in
    torch's own cache. Results are the same to rounding. Raises ConfigError without a compiler.
    """
    from dipole.policy.denoisers.unet1d import ConditionalUnet1D

    if not has_compiler():
        raise ConfigError(
            "train.compile=true needs a C++ compiler, and neither g++ nor clang++ is there: "
            "install one (apt install g++), or set train.compile=false"
        )
    for module in model.modules():
        if not isinstance(module, ConditionalUnet1D):
            continue
        if next(module.parameters()).device.type == "cpu":
            module.fast_path = CpuFastPath(compiled_norms())
        else:
            module.compile()


def compiled_norms() -> NormKernels:
    """Both passes of norms, compiled for each shape of activations."""
    # The number of threads is chosen after compiling, and is another one in threads of rows.
    options: dict[str, Any] = {"cpp.dynamic_threads": True}
    wanted: dict[str, Any] = {"dynamic": False, "options": options}
    if "recompile_limit" in signature(torch.compile).parameters:  # torch 2.13
        wanted["recompile_limit"] = SHAPES
    else:
        _allow_shapes()
    forward, backward = (torch.compile(k, **wanted) for k in (norm_mish, norm_mish_backward))
    return NormKernels(forward, backward)


def _allow_shapes() -> None:
    """Raise the limit for the whole process, where it cannot be given for each function."""
    from torch._dynamo import config

    for name in LIMITS:
        if hasattr(config, name):
            setattr(config, name, max(getattr(config, name), SHAPES))
            return

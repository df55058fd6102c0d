"""Settings of the whole process that a run changes, and leaves as it found them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("highest", "high", "medium")


@contextmanager
def process_settings(
    deterministic: bool, matmul_precision: str, device: torch.device
) -> Iterator[None]:
    """While it lasts: deterministic algorithms or not, and the precision of fp32 products on GPUs.

    Put back in the end: these two, and torch's number of threads, which a run chooses.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    threads = torch.get_num_threads()
    try:
        _set_deterministic(deterministic)
        with product_precision(matmul_precision, device):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        torch.set_num_threads(threads)


@contextmanager
def product_precision(matmul_precision: str, device: torch.device) -> Iterator[None]:
    """fp32 products on a GPU: "highest" are fp32, "high" TF32 (10 bits of mantissa, up to eight
    times faster), "medium" bf16. On a processor nothing changes."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(matmul_precision)
    torch.backends.cudnn.allow_tf32 = matmul_precision != "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _set_deterministic(on: bool) -> None:
    """Algorithms that give the same bits in every run on the same machine."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on)
    torch.backends.cudnn.benchmark = not on

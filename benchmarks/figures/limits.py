"""What the machine can do at most, measured beside everything else."""

import time
from collections.abc import Callable
from typing import Any

import torch

from dipole.policy.training.hardware.precision import multiplies_bf16

SIZE = 1024  # of the matrices: all three fit into a core's share of cache
FLOATS = 2**26  # 256 MiB, far more than any cache


def measure_limits(threads: int, repeats: int = 8) -> dict[str, Any]:
    """Each by one thread and by all of them; the best of some trials.

    gemm_gflops: multiplications and additions a second, by dtype, bf16 only where the processor
    multiplies it. read_gb_s: reading from memory.
    launch_us: an operation on one number, as PyTorch calls it.
    """
    found: dict[str, Any] = {}
    before = torch.get_num_threads()
    has_bf16 = multiplies_bf16(torch.device("cpu"))
    dtypes = [torch.float32, *([torch.bfloat16] if has_bf16 else [])]
    for count in dict.fromkeys((1, threads)):
        torch.set_num_threads(count)
        numbers = torch.ones(FLOATS)
        found[str(count)] = {
            "gemm_gflops": {
                str(dtype).removeprefix("torch."): _gemm(dtype, repeats) for dtype in dtypes
            },
            "read_gb_s": 4e-9 * FLOATS / _least(numbers.sum, repeats),
            "launch_us": 1e3 * _least(_thousand_additions, repeats),
        }
    torch.set_num_threads(before)
    return found


def _gemm(dtype: torch.dtype, repeats: int) -> float:
    a, b = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    return 2e-9 * SIZE**3 / _least(lambda: torch.mm(a, b), repeats)


def _thousand_additions() -> None:
    one = torch.ones(1)
    for _ in range(1000):
        one.add(1)


def _least(work: Callable[[], object], repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)

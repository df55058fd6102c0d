"""How benchmarks/gpu.py measures: turns, medians from a waiting GPU to a waiting GPU, limits."""

import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

WARM_UP, TURNS, PROFILED = 5, 3, 5


@dataclass
class Contestant:
    """work: one call. predict: one prediction of the denoiser, for its error. found: what is said
    of it in the report."""

    figure: str
    way: str
    precision: str
    work: Callable[[], Any]
    predict: Callable[[], Tensor] | None = None
    found: dict[str, Any] = field(default_factory=dict)


def machine(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"name": str(device), "torch": torch.__version__}
    found = torch.cuda.get_device_properties(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    cuda = {"cuda": torch.version.cuda, "cudnn": cudnn}
    return {"name": found.name, "torch": torch.__version__, **cuda}


def limits(device: torch.device) -> dict[str, float]:
    """TFLOP/s of a large product, random data, and TB/s of a copy, bytes read and written."""
    size = 8192 if device.type == "cuda" else 512
    found = {}
    for precision in ("fp32", "tf32", "bf16"):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        with of_precision("fp32" if precision == "bf16" else precision, device):
            seconds = 1e-3 * statistics.median(timed(partial(torch.matmul, a, b), device, 0.3))
        found[f"{precision}_tflops"] = round(2 * size**3 / seconds / 1e12, 1)
    block = torch.randn(size * size * 4, device=device)
    seconds = 1e-3 * statistics.median(timed(block.clone, device, 0.2))
    return {**found, "copy_tb_per_second": round(2 * block.numel() * 4 / seconds / 1e12, 2)}


@contextmanager
def of_precision(precision: str, device: torch.device) -> Iterator[None]:
    """fp32 without TF32, tf32 with it in products and convolutions, bf16 by autocast."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raises TimeoutError within after so many seconds; never for 0."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device, seconds: float) -> list[float]:
    """Milliseconds of each call in about so many seconds, at least five, after some to warm up."""
    for _ in range(WARM_UP):
        work()
    wait(device)
    found: list[float] = []
    until = time.perf_counter() + seconds
    while len(found) < 5 or time.perf_counter() < until:
        started = time.perf_counter()
        work()
        wait(device)
        found.append(1e3 * (time.perf_counter() - started))
    return found


def measured(
    contestants: Sequence[Contestant], exact: Tensor | None, device: torch.device, seconds: float
) -> list[dict[str, Any]]:
    """A row for each, after turns of so many seconds; the first is the one to compare with.

    exact: the prediction that errors are relative to.
    """
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(TURNS):
        for each, found in zip(contestants, times, strict=True):
            with of_precision(each.precision, device):
                found.extend(timed(each.work, device, seconds))
    plain = statistics.median(times[0])
    rows = []
    for each, found in zip(contestants, times, strict=True):
        tenths = statistics.quantiles(found, n=10)
        row = {"figure": each.figure, "way": each.way, "precision": each.precision, **each.found}
        row |= {"ms": statistics.median(found), "ms_10": tenths[0], "ms_90": tenths[-1]}
        row |= {"calls": len(found), "times_plain": plain / row["ms"]}
        with of_precision(each.precision, device):
            row |= on_the_gpu(each.work, device)
            if each.predict is not None and exact is not None:
                row["error"] = relative_error(each.predict(), exact)
        rows.append(row)
    return rows


def on_the_gpu(work: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Milliseconds that kernels and copies of one call take on the GPU, and how many there are."""
    if device.type != "cuda":
        return {}
    from torch.autograd import DeviceType  # type: ignore[attr-defined]
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for _ in range(PROFILED):
                work()
            wait(device)
        kernels = [event for event in seen.events() if event.device_type == DeviceType.CUDA]
        total = sum(event.self_device_time_total for event in kernels)  # microseconds
    except Exception as error:
        print(f"no profile: {error}", flush=True)
        return {}
    return {"gpu_ms": 1e-3 * total / PROFILED, "kernels": len(kernels) / PROFILED}


@torch.no_grad()
def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().cpu().double() - exact).norm() / exact.norm())


def table(network: str, rows: Sequence[dict[str, Any]]) -> str:
    """As docs/performance.md has it."""
    lines = [
        "| figure | way | precision | ms (10 % to 90 %) | × plain | GPU ms | launches | error |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [
            f"{row['figure']}, `{network}`",
            row["way"],
            row["precision"],
            f"{row['ms']:.3g} ({row['ms_10']:.3g}–{row['ms_90']:.3g})",
            f"{row['times_plain']:.2f}",
            f"{row['gpu_ms']:.3g}" if "gpu_ms" in row else "",
            f"{row['kernels']:.0f}" if "kernels" in row else "",
            f"{row['error']:.1e}" if "error" in row else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

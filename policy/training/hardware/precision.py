"""Whether to train in bf16: only where the hardware multiplies it natively."""

import time
from collections.abc import Callable
from functools import cache

import torch

WORTH_IT = 1.2  # times the products of fp32 that bf16 has to give
SIZE, TURNS = 1024, 4  # of the matrices that are multiplied to find out


def multiplies_bf16(device: torch.device) -> bool:
    """Whether this device multiplies bf16 natively; others emulate it, many times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    tell = getattr(torch.cpu, "get_capabilities", None)
    has = tell() if tell is not None else {}  # an older torch cannot tell
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def bf16_is_faster(device: torch.device) -> bool:
    """Whether products in bf16 are worth it: a processor may have them, at half the rate of fp32.

    On a processor found out by multiplying, once, in a tenth of a second.
    """
    if device.type != "cpu" or not multiplies_bf16(device):
        return multiplies_bf16(device)
    return _times_faster() > WORTH_IT


def use_autocast(amp: bool | None, device: torch.device) -> bool:
    """train.amp, decided: null is bf16 where it is faster on the device."""
    return bf16_is_faster(device) if amp is None else amp


def precision_note(amp: bool | None, device: torch.device) -> str:
    """A line for the terminal about precision; "" for plain fp32 that was asked for."""
    has = multiplies_bf16(device)
    if amp and not has:
        return (
            f"precision: bf16, which {device} only emulates, tens of times slower than fp32: "
            "set train.amp=false, or null to use it only where it is fast"
        )
    if amp is None and not use_autocast(None, device):
        why = "multiplies bf16 no faster" if has else "has no bf16"
        return f"precision: fp32, {device} {why} (train.amp=null)"
    return "precision: bf16 autocast" if use_autocast(amp, device) else ""


@cache
def _times_faster() -> float:
    """How many times faster the processor multiplies bf16 than fp32, the best of some turns."""
    pairs = [[torch.ones(SIZE, SIZE, dtype=d)] * 2 for d in (torch.float32, torch.bfloat16)]
    seconds = [min(_timed(torch.mm, *pair) for _ in range(TURNS)) for pair in pairs]
    return seconds[0] / seconds[1]


def _timed(work: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started

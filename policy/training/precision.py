"""Whether to train in bf16: quick where the hardware multiplies it, and hopeless elsewhere."""

import torch


def multiplies_bf16(device: torch.device) -> bool:
    """Whether this device has bf16 products of its own; others imitate them, many times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    tell = getattr(torch.cpu, "get_capabilities", None)
    has = tell() if tell is not None else {}  # an older torch cannot tell
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def use_autocast(amp: bool | None, device: torch.device) -> bool:
    """train.amp, decided: null is bf16 where the device multiplies it."""
    return multiplies_bf16(device) if amp is None else amp


def precision_note(amp: bool | None, device: torch.device) -> str:
    """What a run says about it; nothing where it is plain fp32 because it was asked for."""
    has = multiplies_bf16(device)
    if amp and not has:
        return (
            f"precision: bf16, which {device} only imitates, tens of times slower than fp32: "
            "set train.amp=false, or null to use it only where it is fast"
        )
    if amp is None and not has:
        return f"precision: fp32, {device} has no bf16 (train.amp=null)"
    return "precision: bf16 autocast" if use_autocast(amp, device) else ""

"""What of a policy's answer may be used at all: finite, of the right shape, near the limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dipole.data.errors import DipoleError
from dipole.deploy.robots.robot import ActionSpec
from dipole.deploy.safety.limits import Limits
from dipole.deploy.types import Floats

NUMBERS = "fiu"  # numpy's kinds: floats and integers


class RefusedAction(DipoleError):  # noqa: N818  it is what happened to the action
    """Actions that must not reach the robot; the message says why."""


def check_chunk(answer: Any, spec: ActionSpec, limits: Limits, refuse_beyond: float) -> Floats:
    """The chunk [H, A] of a policy's answer {"action": [H, A]}, or RefusedAction.

    refuse_beyond: an action further outside the limits than this many times their range is no
    motion that was meant to be, and is refused rather than clamped.
    """
    if not isinstance(answer, Mapping) or "action" not in answer:
        keys = ", ".join(map(repr, answer)) if isinstance(answer, Mapping) else type(answer)
        raise RefusedAction(f"the policy's answer has no 'action': it holds {keys or 'nothing'}")
    try:
        chunk = np.asarray(answer["action"])
    except ValueError as error:
        raise RefusedAction(f"the policy's actions are no array: {error}") from None
    if chunk.dtype.kind not in NUMBERS:
        raise RefusedAction(f"the policy's actions have dtype {chunk.dtype}; numbers are needed")
    if not np.isfinite(chunk).all():
        raise RefusedAction("the policy's actions are not finite")
    if chunk.ndim != 2 or not len(chunk) or chunk.shape[1] != spec.size:
        raise RefusedAction(
            f"the policy's actions have shape {list(chunk.shape)}; [H, {spec.size}] is needed"
        )
    return _check_size(chunk.astype(np.float64), spec, limits, refuse_beyond)


def _check_size(chunk: Floats, spec: ActionSpec, limits: Limits, refuse_beyond: float) -> Floats:
    low, high = limits.array("low"), limits.array("high")
    slack = refuse_beyond * (high - low)
    outside = (chunk < low - slack) | (chunk > high + slack)
    if outside.any():
        step, entry = (int(i) for i in np.argwhere(outside)[0])
        raise RefusedAction(
            f"action {step} of the chunk sets {spec.names[entry]} to {chunk[step, entry]:.6g}, far "
            f"outside its limits {low[entry]:g} to {high[entry]:g}"
        )
    for start in spec.quaternions:
        if (np.linalg.norm(chunk[:, start : start + 4], axis=1) < 1e-6).any():
            raise RefusedAction(f"the quaternion of {spec.names[start]} has no direction")
    return chunk

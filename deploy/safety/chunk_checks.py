"""What of a policy's answer may be used at all: finite, of the right shape, near the limits.

Nothing is corrected here: a chunk that makes no sense is refused, and the robot holds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dipole.data.core.errors import DipoleError
from dipole.data.transforms import rotation as rotations
from dipole.deploy.robots.groups import ActionGroup, ActionSpec, Kind
from dipole.deploy.types import Floats

NEARLY = 0.25  # of a full turn: what misses a full turn by less is one
NUMBERS = "fiu"  # numpy's kinds: floats and integers
MOST_TURNS = 1e6  # of a joint without an end: beyond, its angle is lost in rounding


class RefusedAction(DipoleError):  # noqa: N818  it is what happened to the action
    """Actions that must not reach the robot; the message says why."""


def check_chunk(
    answer: Any,
    spec: ActionSpec,
    refuse_beyond: float,
    measured: Floats | None = None,
) -> Floats:
    """The chunk [H, A] of a policy's answer {"action": [H, A]}, or RefusedAction.

    refuse_beyond: an action further outside the limits than this many times their range is no
    motion that was meant to be, and is refused rather than clamped. measured: where the robot
    is [A], if that is known.
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
    chunk = chunk.astype(np.float64)
    if not np.isfinite(chunk).all():
        raise RefusedAction("the policy's actions are not finite")
    if chunk.ndim != 2 or not len(chunk) or chunk.shape[1] != spec.size:
        raise RefusedAction(
            f"the policy's actions have shape {list(chunk.shape)}; [H, {spec.size}] is needed"
        )
    for group, part in spec.parts:
        _check_range(chunk[:, part], group, refuse_beyond)
        start = chunk[0] if measured is None else measured
        _check_angles(chunk[:, part], group, start[part])
        _check_rotation(chunk[:, part], group)
        if group.is_discrete:
            chunk[:, part] = _nearest(chunk[:, part], np.array(group.values))
    return chunk


def _nearest(numbers: Floats, values: Floats) -> Floats:
    """Each number [H, n] as the value nearest to it: what a discrete group was meant to take."""
    nearest = np.abs(numbers[..., None] - values).argmin(axis=-1)
    return np.asarray(values[nearest], np.float64)


def _check_range(chunk: Floats, group: ActionGroup, refuse_beyond: float) -> None:
    if group.is_discrete:
        low, high = np.full(group.size, min(group.values)), np.full(group.size, max(group.values))
    else:
        assert group.limits is not None, "the loop refuses robots without limits"
        low, high = group.limits.array("low"), group.limits.array("high")
    slack = refuse_beyond * (high - low)
    outside = (chunk < low - slack) | (chunk > high + slack)
    outside = np.where(group.periods > 0, np.abs(chunk) > MOST_TURNS * group.periods, outside)
    outside[:, group.size - group.turning :] = False
    if outside.any():
        step, entry = (int(i) for i in np.argwhere(outside)[0])
        raise RefusedAction(
            f"action {step} of the chunk sets {group.names[entry]} to {chunk[step, entry]:.6g}, "
            f"far outside its limits {low[entry]:g} to {high[entry]:g}"
        )


def _check_angles(chunk: Floats, group: ActionGroup, start: Floats) -> None:
    """An angle that wraps would have the joint turn the long way round.

    It is one that jumps by about a full turn: from one action to the next, or from where the robot
    is to an action. Half a turn may be a motion that was meant; a full one is not made in a chunk.
    """
    if group.kind != Kind.JOINT_POSITION:
        return
    for entry, turn in enumerate(group.turns):
        if not turn or group.periods[entry]:
            continue
        angles = np.array([start[entry], *chunk[:, entry]])
        for a, b in ((angles[:-1], angles[1:]), (np.full(len(chunk), angles[0]), angles[1:])):
            wraps = (np.abs(b - a) > turn / 2) & (np.abs(b - a - np.round((b - a) / turn) * turn)
                                                 < NEARLY * turn)  # fmt: skip
            if wraps.any():
                k = int(np.argmax(wraps))
                name = group.names[entry]
                raise RefusedAction(
                    f"{name} goes from {a[k]:.4g} to {b[k]:.4g} {group.units[entry]}, about a full "
                    "turn: an angle that wraps? A joint without an end is declared by continuous="
                    f"({name!r},), others are trained on unwrapped angles; one that is really that "
                    "far away has to be moved nearer by other means"
                )


def _check_rotation(chunk: Floats, group: ActionGroup) -> None:
    for row in chunk[:, group.size - group.turning :] if group.turning else ():
        try:
            rotations.to_quaternion(row, group.rotation)
        except ValueError as error:
            raise RefusedAction(f"group {group.name!r}: {error}") from None

"""What of a policy's answer may be used at all: finite, of the right shape, near the limits.

Nothing is corrected here: a chunk that makes no sense is refused, and the robot holds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dipole.data.errors import DipoleError
from dipole.data.units import canonical
from dipole.deploy.robots import rotation as rotations
from dipole.deploy.robots.groups import FULL_TURN, ActionGroup, ActionSpec, Kind
from dipole.deploy.types import Floats

NUMBERS = "fiu"  # numpy's kinds: floats and integers
MOST_TURNS = 1e6  # of a joint without an end: beyond, its angle is lost in rounding


class RefusedAction(DipoleError):  # noqa: N818  it is what happened to the action
    """Actions that must not reach the robot; the message says why."""


def check_chunk(
    answer: Any,
    spec: ActionSpec,
    refuse_beyond: float,
    dt: float,
    measured: Floats | None = None,
) -> Floats:
    """The chunk [H, A] of a policy's answer {"action": [H, A]}, or RefusedAction.

    refuse_beyond: an action further outside the limits than this many times their range is no
    motion that was meant to be, and is refused rather than clamped. dt: seconds between actions.
    measured: where the robot is [A], if that is known.
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
        _check_angles(chunk[:, part], group, start[part], len(chunk) * dt)
        _check_rotation(chunk[:, part], group)
    return chunk


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


def _check_angles(chunk: Floats, group: ActionGroup, start: Floats, seconds: float) -> None:
    """An angle that wraps would have the joint turn the long way round.

    That is more than half a turn from its start, and further than its speed allows in that time.
    """
    turn = FULL_TURN.get(canonical(group.unit))
    if turn is None or group.kind != Kind.JOINT_POSITION or group.limits is None:
        return
    reach = np.maximum(turn / 2, group.limits.array("velocity") * seconds)
    jumps = (np.abs(chunk - start) > reach) & (group.periods == 0)
    if jumps.any():
        step, entry = (int(i) for i in np.argwhere(jumps)[0])
        name = group.names[entry]
        raise RefusedAction(
            f"{name} goes from {start[entry]:.4g} to {chunk[step, entry]:.4g} {group.unit} "
            "within a chunk: an angle that wraps. A joint without an end is declared by "
            f"continuous=({name!r},); else train on unwrapped angles"
        )


def _check_rotation(chunk: Floats, group: ActionGroup) -> None:
    for row in chunk[:, group.size - group.turning :] if group.turning else ():
        try:
            rotations.to_quaternion(row, group.rotation)
        except ValueError as error:
            raise RefusedAction(f"group {group.name!r}: {error}") from None

"""Actions between others: interpolation, means, differences, group by group.

Rotations go along the arc, continuous joints the short way, discrete numbers from one value to the
next without anything between.
"""

import numpy as np

from dipole.data.transforms import rotation as rotations
from dipole.deploy.robots.groups import ActionGroup, ActionSpec
from dipole.deploy.types import Floats


def interpolate(a: Floats, b: Floats, t: float, spec: ActionSpec) -> Floats:
    """Between two actions [A]: a at t = 0, b at t = 1."""
    if t == 1.0:
        return np.array(b, np.float64)
    parts = [_between(group, a[part], b[part], t) for group, part in spec.parts]
    return np.concatenate(parts)


def weighted_mean(actions: Floats, weights: Floats, spec: ActionSpec) -> Floats:
    """The mean [A] of actions [n, A] with weights [n]; of discrete numbers the value
    with the largest weight in all."""
    parts = [_mean(group, actions[:, part], weights) for group, part in spec.parts]
    return np.concatenate(parts)


def by_group(vectors: Floats, spec: ActionSpec) -> dict[str, Floats]:
    """Differences of actions [..., A], group by group: {""} for one group, {"_arm", ...} for more.

    Each group has units of its own, so that a length over several of them means nothing.
    """
    several = len(spec.groups) > 1
    return {f"_{group.name}" if several else "": vectors[..., part] for group, part in spec.parts}


def nearest_equal(action: Floats, reference: Floats, spec: ActionSpec) -> Floats:
    """The same action [A], written so that it is nearest to another: angles within half a turn,
    quaternions of the same sign."""
    near = np.array(action, np.float64)
    for group, part in spec.parts:
        near[part] = _near(group, near[part], reference[part])
    return near


def _near(group: ActionGroup, action: Floats, reference: Floats) -> Floats:
    if group.continuous:
        action = unwrapped(action, reference, group.periods)
    if turning := group.turning:
        written = rotations.to_quaternion(action[-turning:], group.rotation)
        near = rotations.from_quaternion(written, group.rotation, reference[-turning:])
        action = np.concatenate([action[:-turning], near])
    return action


def unwrapped(action: Floats, reference: Floats, periods: Floats) -> Floats:
    """Angles, by whole turns nearest to others: [n] each; a period of 0 leaves a number as is."""
    turn = np.where(periods > 0, periods, 1.0)
    turns = np.where(periods > 0, np.round((reference - action) / turn), 0.0)
    return np.asarray(action + turns * turn, np.float64)


def _between(group: ActionGroup, a: Floats, b: Floats, t: float) -> Floats:
    if group.is_discrete:
        return np.array(a if t < 0.5 else b, np.float64)
    if group.continuous:
        b = unwrapped(b, a, group.periods)
    mixed = np.asarray(a + t * (b - a), np.float64)
    if turning := group.turning:
        start, end = (rotations.to_quaternion(x[-turning:], group.rotation) for x in (a, b))
        between = rotations.slerp(start, end, t)
        mixed[-turning:] = rotations.from_quaternion(between, group.rotation, a[-turning:])
    return mixed


def _mean(group: ActionGroup, actions: Floats, weights: Floats) -> Floats:
    if group.is_discrete:
        return np.array([_heaviest(column, weights) for column in actions.T])
    if group.continuous:
        actions = np.stack([unwrapped(row, actions[-1], group.periods) for row in actions])
    mean = np.asarray(weights @ actions / weights.sum(), np.float64)
    if turning := group.turning:
        rows = [rotations.to_quaternion(row[-turning:], group.rotation) for row in actions]
        middle = rotations.mean(np.stack(rows), weights)
        newest = actions[-1, -turning:]
        mean[-turning:] = rotations.from_quaternion(middle, group.rotation, newest)
    return mean


def _heaviest(values: Floats, weights: Floats) -> float:
    """The value to which most of the weight belongs."""
    found, which = np.unique(values, return_inverse=True)
    return float(found[np.argmax(np.bincount(which, weights))])

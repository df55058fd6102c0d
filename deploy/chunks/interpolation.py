"""From the policy's rate to the command rate: the reference between two actions.

linear   at constant speed, rotations at constant angular speed
cubic    with a continuous velocity: a cubic Hermite curve with the slopes of the actions around;
         coordinates and joints only, rotations as linear
step     at once: for controllers that were given steps when the demonstrations were made
"""

import numpy as np

from dipole.deploy.robots.action_math import interpolate, nearest_equal
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.types import Floats


class Interpolation:
    """The reference from one action to the next, in `steps` commands.

    spec: of the actions; a group without an interpolation of its own has `default`.
    A slot that is missed is not caught up: each command goes one step further, whatever the time,
    and the next action is gone to from where the reference then is.

    >>> between = Interpolation(ActionSpec(("x",), measured_by="x"), steps=2, default="linear")
    >>> between.start(np.array([0.0]))
    >>> between.aim(np.array([8.0]))
    >>> [float(between.next()[0]) for _ in range(3)]
    [4.0, 8.0, 8.0]
    """

    def __init__(self, spec: ActionSpec, steps: int, default: str) -> None:
        self._spec = spec
        self._steps = steps
        kinds = [
            "step" if group.is_discrete else group.interpolation or default
            for group in spec.groups
            for _ in group.names
        ]
        rotates = [
            number >= group.size - group.turning
            for group in spec.groups
            for number in range(group.size)
        ]
        self._step = np.array([kind == "step" for kind in kinds])
        self._cubic = np.array([kind == "cubic" for kind in kinds]) & ~np.array(rotates)

    def start(self, at: Floats) -> None:
        """Begin at `at` [A], at rest."""
        self._from = self._to = self._at = np.array(at, np.float64)
        self._slope_from = self._slope_to = np.zeros_like(self._to)
        self._done = self._steps

    def aim(self, action: Floats, following: Floats | None = None) -> None:
        """Go on to an action [A]; following: the one after it, if it is known."""
        action = nearest_equal(action, self._at, self._spec)
        self._from, self._slope_from = self._at, self._slope_to
        if following is None:
            self._slope_to = action - self._from
        else:
            after = nearest_equal(following, action, self._spec)
            self._slope_to = (after - self._from) / 2
        self._to, self._done = action, 0

    @property
    def arrived(self) -> bool:
        """Whether the reference is at the action."""
        return bool((self._at == self._to).all())

    def next(self) -> Floats:
        """The reference [A] of the next command."""
        self._at = self._reference()
        return self._at.copy()

    def _reference(self) -> Floats:
        self._done = min(self._done + 1, self._steps)
        t = self._done / self._steps
        if t == 1.0:
            return self._to.copy()
        between = interpolate(self._from, self._to, t, self._spec)
        if self._cubic.any():
            between = np.where(self._cubic, self._hermite(t), between)
        return np.where(self._step, self._to, between)

    def _hermite(self, t: float) -> Floats:
        way = self._to - self._from
        return np.asarray(
            self._from
            + (3 * t**2 - 2 * t**3) * way
            + (t - 2 * t**2 + t**3) * self._slope_from
            + (t**3 - t**2) * self._slope_to,
            np.float64,
        )

"""From the policy's rate to the controller's: what is sent between two actions."""

from collections.abc import Callable

import numpy as np

from dipole.data.registry import Registry
from dipole.deploy.robots.robot import ActionSpec
from dipole.deploy.robots.rotation import mix
from dipole.deploy.types import Floats

# (last action [A], next action [A], part of the way 0 < t <= 1, spec) -> what to send [A]
Interpolation = Callable[[Floats, Floats, float, ActionSpec], Floats]
INTERPOLATIONS: Registry[Interpolation] = Registry("interpolation")


@INTERPOLATIONS.add("linear")
def linear(last: Floats, target: Floats, t: float, spec: ActionSpec) -> Floats:
    """At constant speed; quaternions at constant angular speed."""
    return mix(last, target, t, spec)


@INTERPOLATIONS.add("step")
def step(_last: Floats, target: Floats, _t: float, _spec: ActionSpec) -> Floats:
    """At once: for controllers that were given steps when the demonstrations were made."""
    return target


class Ramp:
    """The way from the last command to the next action, in `steps` commands.

    A slot that is missed is not caught up: each command goes one step further, whatever the time.

    >>> ramp = Ramp(ActionSpec(("x",)), steps=2, interpolation="linear")
    >>> ramp.aim(np.array([0.0]), np.array([8.0]))
    >>> [float(ramp.next()[0]) for _ in range(3)]
    [4.0, 8.0, 8.0]
    """

    def __init__(self, spec: ActionSpec, steps: int, interpolation: str) -> None:
        self._spec = spec
        self._steps = steps
        self._between = INTERPOLATIONS[interpolation]

    def aim(self, last: Floats, target: Floats) -> None:
        self._last, self._target, self._sent = last, target, 0

    def next(self) -> Floats:
        self._sent = min(self._sent + 1, self._steps)
        t = self._sent / self._steps
        return np.array(self._between(self._last, self._target, t, self._spec))

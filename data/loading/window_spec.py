"""Which frames make one training example; without the libraries that read them.

A policy's window is known wherever the policy is used, also on a robot's computer, which has no
store of episodes. It counts in steps of the policy. In data of a higher rate a step is several
frames, and each step shows the frame that is nearest in time:

    policy 10 Hz, data 50 Hz    frames -5  0  5  10  15 ...    around the current one
    policy 10 Hz, data 15 Hz    frames -1  0  2   3   5 ...    times -1.5 0 1.5 3 4.5; halves go up
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest


@dataclass(frozen=True)
class WindowSpec:
    """Which frames make one training example: To observations, H actions, Ta of them executed."""

    n_obs_steps: int = 2
    horizon: int = 16
    n_action_steps: int = 8

    def __post_init__(self) -> None:
        for name in ("n_obs_steps", "horizon", "n_action_steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} is {value!r}: it must be a whole number above 0")
        last = self.n_obs_steps - 1 + self.n_action_steps
        if last > self.horizon:
            raise ConfigError(
                f"n_obs_steps - 1 + n_action_steps is {last}, past the horizon of {self.horizon}: "
                "shorten n_action_steps or lengthen the horizon"
            )

    @staticmethod
    def check_names(values: Mapping[str, Any]) -> None:
        """Raise ConfigError, with the nearest that is known, for a name that no window has."""
        known = [*_STEPS, *_STEPS.values()]
        for name in values:
            if name not in known:
                raise ConfigError(
                    f"window has no {name!r}{nearest(name, known) or '.'} Known: {', '.join(known)}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], hz: float | None = None) -> "WindowSpec":
        """From a task's `window`, in steps (n_obs_steps, horizon, n_action_steps) or in seconds.

        values: obs_seconds, horizon_seconds and action_seconds may stand for the number of steps
        that last as long. hz: steps per second. Raises ConfigError for what is no whole number of
        steps, and for unknown names.
        """
        cls.check_names(values)
        steps = {}
        for name, in_seconds in _STEPS.items():
            if name in values and in_seconds in values:
                raise ConfigError(f"window has both {name} and {in_seconds}: give one of them")
            if name in values:
                steps[name] = values[name]
            elif in_seconds in values:
                steps[name] = _whole_steps(in_seconds, values[in_seconds], hz)
        return cls(**steps)

    def offsets(self, step: Fraction = Fraction(1)) -> np.ndarray:
        """Frames from the current one to each of the H steps, int64 [H]. step: frames of a step."""
        steps = np.arange(self.horizon) - (self.n_obs_steps - 1)
        return nearest_frame(steps, step)

    def shortest_episode(self, step: Fraction = Fraction(1)) -> int:
        """Frames that an episode needs to have one window."""
        return max(1, 1 + self._unseen(step))

    def count(self, length: int | np.ndarray, step: Fraction = Fraction(1)) -> np.ndarray:
        """Windows of episodes of L frames, never below 0: one for each current frame from the first
        to the last whose window ends at most Ta - 1 steps past the episode.

        With one frame a step: L - H + (To - 1) + (Ta - 1) + 1.
        """
        return np.maximum(np.asarray(length, np.int64) - self._unseen(step), 0)

    def _unseen(self, step: Fraction) -> int:
        """Last frames of an episode that are no window's current frame."""
        real = self.horizon - self.n_obs_steps - self.n_action_steps + 1  # steps after the current
        return int(nearest_frame(np.array(real), step))


_STEPS = {
    "n_obs_steps": "obs_seconds",
    "horizon": "horizon_seconds",
    "n_action_steps": "action_seconds",
}


def frames_per_step(fps: float, hz: float) -> Fraction:
    """Frames of data at `fps` that one step of a policy at `hz` lasts.

    Raises ConfigError where that is less than one: the same frame would stand for several steps.
    """
    step = _exact(fps) / _exact(hz)
    if step < 1:
        raise ConfigError(
            f"the data has {fps:g} frames a second and the policy {hz:g} steps: frames would be "
            "repeated, which is a motion that stops and goes. Lower policy_hz, or convert the data "
            "to the higher rate"
        )
    return step


def _exact(rate: float) -> Fraction:
    """29.97 is 2997/100; binary fractions are not meant."""
    return Fraction(rate).limit_denominator(10_000)


def nearest_frame(steps: int | np.ndarray, step: Fraction) -> np.ndarray:
    """Whole frames at these steps, int64; a time halfway between two is the later one."""
    p, q = step.numerator, step.denominator
    return (2 * np.asarray(steps, np.int64) * p + q) // (2 * q)


def _whole_steps(name: str, seconds: Any, hz: float | None) -> int:
    if hz is None:
        raise ConfigError(f"window.{name} is {seconds}, but no rate is known: set policy_hz")
    if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise ConfigError(f"window.{name} is {seconds!r}: seconds are a positive number")
    steps = round(seconds * hz)
    if steps < 1 or abs(steps - seconds * hz) > 1e-6 * hz:
        raise ConfigError(
            f"window.{name} is {seconds:g} s, which is {seconds * hz:g} steps at {hz:g} Hz: a "
            f"whole number is needed, e.g. {max(steps, 1) / hz:g} s"
        )
    return steps

"""What the robot sees, as the policy wants it: the newest reading, checked, and the history."""

from collections.abc import Iterable, Mapping

import numpy as np

from dipole.data.errors import ConfigError
from dipole.deploy.observations.time_alignment import Alignment
from dipole.deploy.robots.robot import Channel, Reading
from dipole.deploy.types import Arrays, PolicySpec
from dipole.policy.history import ObservationHistory

FUTURE = 0.005  # seconds that a reading may lie ahead: clocks of sensors are not exact


class ObservationBuffer:
    """The slot of the newest reading, and the last To that the policy's rate saw.

    latency: seconds that readings are older than they say, where a driver stamps what arrives
    rather than what is captured: one number, or one by name for each device that needs it.
    align_to: the entry to whose time the others are brought (alignment.py), the camera as a rule;
    None uses the newest of each. channels: what the robot declares. also: channels that are needed
    although the policy does not observe them: those that measure where the robot is.

    A reading of which an entry is older than the one before it, lies in the future or does not fit
    is not used; `refused` counts these, by reason. The age of what is used is that of
    its oldest entry; it then grows, and the loop holds.

    latest: what the policy is shown, and its time; newest: what the robot read last, not aligned.
    """

    def __init__(
        self,
        spec: PolicySpec,
        latency: float | Mapping[str, float] = 0.0,
        *,
        align_to: str | None = None,
        channels: Mapping[str, Channel] | None = None,
        also: Iterable[str] = (),
    ) -> None:
        self.latest: Reading | None = None
        self.newest: Mapping[str, np.ndarray] = {}
        self.refused: dict[str, int] = {}
        self._spec = spec
        self._latency = latency
        self._history = ObservationHistory(1, spec.window.n_obs_steps)
        self._begun = False
        self._times: Mapping[str, float] = {}  # of the newest entries
        known = channels or {}
        self._needed = dict(spec.observation) | {name: known[name].shape for name in also}
        self._check_names(align_to, known)
        self._alignment = None if align_to is None else Alignment(known, align_to)

    def reset(self) -> None:
        """Forget everything seen."""
        self.latest = None
        self.newest, self._times = {}, {}
        self._begun = False
        if self._alignment is not None:
            self._alignment.reset()

    def clear(self) -> None:
        """Begin the history anew: what was seen before a gap is no past of what comes after it."""
        self._begun = False

    def update(self, reading: Reading | None, now: float) -> None:
        """Look at what the robot's sensors say."""
        if reading is None:
            return
        times = {
            name: reading.times.get(name, reading.time) - self._latency_of(name)
            for name in reading.values
        }
        if problem := self._problem(reading.values, times, now):
            self.refused[problem] = self.refused.get(problem, 0) + 1
            return
        # Copied: a driver may reuse its memory for the next reading.
        values = {name: np.array(value) for name, value in reading.values.items()}
        captured = min(times[name] for name in self._needed)
        self._times, self.newest = times, values
        if self._alignment is not None:
            values = self._alignment.aligned(times, values)
        self.latest = Reading(captured, values)

    def age(self, now: float) -> float:
        """Seconds since the newest reading was captured; infinite where there is none."""
        return float("inf") if self.latest is None else now - self.latest.time

    def push(self) -> None:
        """Add the newest reading to the history: once per action of the policy."""
        if self.latest is None:
            return
        values = {name: self.latest.values[name] for name in self._spec.observation}
        if self._begun:
            self._history.append(0, values)
        else:
            self._history.reset(0, values)
        self._begun = True

    def stacked(self) -> Arrays:
        """What the policy is shown: {name: [To, *shape]}."""
        return {name: value[0] for name, value in self._history.stacked([0]).items()}

    def _latency_of(self, name: str) -> float:
        return self._latency.get(name, 0.0) if isinstance(self._latency, Mapping) else self._latency

    def _problem(
        self, values: Mapping[str, np.ndarray], times: Mapping[str, float], now: float
    ) -> str:
        for name in self._needed:
            time = times.get(name, now)  # that one is missing is found below
            if not np.isfinite(time):
                return "time is not finite"
            if time > now + FUTURE:
                return "from the future"
            if time < self._times.get(name, time):
                return "time went backwards"
        problems = (_value_problem(name, shape, values) for name, shape in self._needed.items())
        return next(filter(None, problems), "")

    def _check_names(self, align_to: str | None, channels: Mapping[str, Channel]) -> None:
        if align_to is not None and align_to not in self._spec.observation:
            names = ", ".join(self._spec.observation)
            raise ConfigError(f"align_to is {align_to!r}; the policy observes {names}")
        named = self._latency if isinstance(self._latency, Mapping) else {}
        for name in named:
            if channels and name not in channels:
                raise ConfigError(
                    f"sensor_latency names {name!r}; the robot has {', '.join(channels)}"
                )


def _value_problem(name: str, shape: tuple[int, ...], values: Mapping[str, np.ndarray]) -> str:
    if name not in values:
        return f"{name} is missing"
    value = np.asarray(values[name])
    if value.shape != shape:
        return f"{name} has shape {list(value.shape)}"
    if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
        return f"{name} is not finite"
    return ""

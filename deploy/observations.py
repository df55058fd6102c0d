"""What the robot sees, as the policy wants it: the newest reading, checked, and the history."""

from collections.abc import Mapping

import numpy as np

from dipole.deploy.inference import Arrays, PolicySpec
from dipole.deploy.robot import Reading
from dipole.policy.history import ObservationHistory

FUTURE = 0.005  # seconds that a reading may lie ahead: clocks of sensors are not exact


class Observations:
    """The slot of the newest reading, and the last To that the policy's rate saw.

    latency: seconds that all readings are older than they say, where a driver stamps what arrives
    rather than what is captured. A reading that is older than the one before it, lies in the future
    or does not fit the policy is not used; `refused` counts these, by reason. The age of what is
    used then grows, and the loop holds.
    """

    def __init__(self, spec: PolicySpec, latency: float = 0.0) -> None:
        self.latest: Reading | None = None
        self.refused: dict[str, int] = {}
        self._spec = spec
        self._latency = latency
        self._history = ObservationHistory(1, spec.window.n_obs_steps)
        self._begun = False

    def reset(self) -> None:
        """Forget everything seen."""
        self.latest = None
        self._begun = False

    def forget(self) -> None:
        """Begin the history anew: what was seen before a gap is no past of what comes after it."""
        self._begun = False

    def offer(self, reading: Reading | None, now: float) -> None:
        """Look at what the robot's sensors say."""
        if reading is None:
            return
        captured = reading.time - self._latency
        if problem := self._problem(reading.values, captured, now):
            self.refused[problem] = self.refused.get(problem, 0) + 1
            return
        # Copied: a driver may reuse its memory for the next reading.
        values = {name: np.array(value) for name, value in reading.values.items()}
        self.latest = Reading(captured, values)

    def age(self, now: float) -> float:
        """Seconds since the newest reading was captured; infinite where there is none."""
        return float("inf") if self.latest is None else now - self.latest.time

    def remember(self) -> None:
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

    def _problem(self, values: Mapping[str, np.ndarray], captured: float, now: float) -> str:
        if not np.isfinite(captured):
            return "time is not finite"
        if captured > now + FUTURE:
            return "from the future"
        if self.latest is not None and captured < self.latest.time:
            return "time went backwards"
        problems = (
            _value_problem(name, shape, values) for name, shape in self._spec.observation.items()
        )
        return next(filter(None, problems), "")


def _value_problem(name: str, shape: tuple[int, ...], values: Mapping[str, np.ndarray]) -> str:
    if name not in values:
        return f"{name} is missing"
    value = np.asarray(values[name])
    if value.shape != shape:
        return f"{name} has shape {list(value.shape)}"
    if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
        return f"{name} is not finite"
    return ""

"""What the robot sees, as the policy wants it: the newest readings, checked, and the history."""

from collections import Counter
from collections.abc import Iterable, Mapping

from dipole.data.core.errors import ConfigError
from dipole.deploy.observations.angles import angles_of
from dipole.deploy.observations.channel_buffer import KEPT, ChannelBuffer
from dipole.deploy.observations.history import RecentObservations
from dipole.deploy.robots.channel import Channel
from dipole.deploy.robots.groups import ActionGroup
from dipole.deploy.robots.robot import Reading
from dipole.deploy.types import OTHERS_AGE, Arrays, PolicySpec

ByName = float | Mapping[str, float]


class ObservationBuffer:
    """The newest readings of each channel, and the last To observations at the policy's rate.

        camera   . . . C . . . . . . .          captured at C, arrives 80 ms later
        joints   j0 . . . . . j1 . . .          read at once
        used     camera at C; with align_to="camera", joints between j0 and j1 at C; else j1

    spec: Whose observations these are.
    latency: Seconds that readings are older than they say, where a driver stamps what arrives
        rather than what is captured: one number, or by name.
    max_age: Seconds after capture at which a reading is too old to act on: one number, or by name.
    align_to: The entry to whose time the others are brought, a camera as a rule; None uses the
        newest of each.
    channels: What the robot declares.
    also: Channels that are needed although the policy does not observe them: those that measure
        where the robot is.
    groups: Of the robot's actions: what they say of rotations and angles in what measures them.

    An entry of a reading that is older than the one before it, lies in the future or does not fit
    is not used; `refused` counts these, by channel and reason. The one before it then ages, and
    the loop holds.

    latest: What the policy is shown, and its time: the reference's, or that of the oldest entry.
    newest: What each channel read last, not aligned.
    """

    def __init__(
        self,
        spec: PolicySpec,
        latency: ByName = 0.0,
        *,
        max_age: ByName = float("inf"),
        align_to: str | None = None,
        channels: Mapping[str, Channel] | None = None,
        also: Iterable[str] = (),
        groups: Iterable[ActionGroup] = (),
    ) -> None:
        self.latest: Reading | None = None
        self.newest: Arrays = {}
        self.refused: Counter[str] = Counter()
        self._spec, self._align_to = spec, align_to
        self._recent = RecentObservations(spec.window.n_obs_steps)
        known = {name: Channel(shape) for name, shape in spec.observation.items()}
        known |= channels or {}
        self._needed = tuple(dict.fromkeys((*spec.observation, *also)))
        _check_names(
            spec, align_to, known, {"sensor_latency": latency, "max_observation_age": max_age}
        )
        self._channels = {
            name: ChannelBuffer(
                name,
                channel,
                _of(max_age, name, OTHERS_AGE),
                _of(latency, name, 0.0),
                angles_of(name, channel, groups),
                kept=1 if align_to is None else KEPT,
            )
            for name, channel in known.items()
        }

    def reset(self) -> None:
        """Forget everything seen."""
        self.latest, self.newest = None, {}
        self.clear()
        for channel in self._channels.values():
            channel.clear()

    def clear(self) -> None:
        """Begin the history anew: what was seen before a gap is no past of what comes after it."""
        self._recent.clear()

    def update(self, reading: Reading | None, now: float) -> None:
        """Look at what the robot's sensors say."""
        if reading is None:
            return
        for name, channel in self._channels.items():
            problem = channel.take(reading, now)
            if name in self._needed:
                self.refused.update([f"{name} {problem}"] if problem else [])
            elif problem:
                channel.clear()  # nothing tells its age
        newest = {name: channel.newest for name, channel in self._channels.items()}
        self.newest = {name: value for name, value in newest.items() if value is not None}
        if all(name in self.newest for name in self._needed):
            self.latest = self._latest()

    def age(self, now: float) -> float:
        """Seconds since what the policy is shown was captured; infinite where there is nothing."""
        return float("inf") if self.latest is None else now - self.latest.time

    def stale(self, now: float) -> str:
        """Which channels are too old to act on at time `now`, and why; "" if none is."""
        problems = (self._channels[name].stale(now) for name in self._needed)
        return "; ".join(filter(None, problems))

    def push(self) -> None:
        """Add the newest reading to the history: once per action of the policy."""
        if self.latest is not None:
            values = self.latest.values
            self._recent.push({name: values[name] for name in self._spec.observation})

    def stacked(self) -> Arrays:
        """What the policy is shown: {name: [To, *shape]}, stacked where it is first looked at."""
        return self._recent.stacked()

    def _latest(self) -> Reading:
        if self._align_to is None:
            oldest = min(self._channels[name].time for name in self._spec.observation)
            return Reading(oldest, self.newest)
        time = self._channels[self._align_to].time
        for channel in self._channels.values():
            channel.drop_before(time)
        return Reading(time, {name: self._channels[name].at(time) for name in self.newest})


def _of(values: ByName, name: str, otherwise: float) -> float:
    return values.get(name, otherwise) if isinstance(values, Mapping) else values


def _check_names(
    spec: PolicySpec,
    align_to: str | None,
    channels: Mapping[str, Channel],
    settings: Mapping[str, ByName],
) -> None:
    if align_to is not None and align_to not in spec.observation:
        names = ", ".join(spec.observation)
        raise ConfigError(f"align_to is {align_to!r}; the policy observes {names}")
    for setting, values in settings.items():
        for name in values if isinstance(values, Mapping) else ():
            if name not in channels:
                has = ", ".join(channels)
                raise ConfigError(f"{setting} names {name!r}; the robot has {has}")

"""A robot on the virtual clock that lags, sags and is measured late, and tells when it was asked
for too much.

Its limits are computed from their definitions over everything that it was sent, with scipy's
rotations, and share nothing with the command filter:

    finite, low <= c[k] <= high                      |c[0] - measured| <= velocity x P
    v[k] = (c[k] - c[k-1]) / P, |v[k]| <= velocity   |v[k] - v[k-1]| / P <= acceleration

P is the command period. Where more than max_missed slots were missed, v[k-1] is 0 for positions:
the robot stood still. Rotations by angles and by differences of angular velocity vectors.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from dipole.deploy import ActionSpec, Channel, Limits, Reading, Robot, RobotSpec
from dipole.deploy.robots.groups import ActionGroup

TOLERANCE = 1e-4  # relative, of velocity and acceleration
GROUPS = ("arm", "other_arm", "pose_xyzw", "pose_wxyz", "pose_vector", "pose_six", "wrist",
          "gripper", "base", "measured_base", "wheel", "valve")  # fmt: skip
ROTATIONS = {"pose_xyzw": "quaternion_xyzw", "pose_wxyz": "quaternion_wxyz",
             "pose_vector": "rotation_vector", "pose_six": "rotation_6d",
             "wrist": "rotation_vector"}  # fmt: skip
WRITTEN = {"quaternion_xyzw": 4, "quaternion_wxyz": 4, "rotation_vector": 3, "rotation_6d": 6}
KINDS = {"gripper": "gripper", "base": "twist", "measured_base": "joint_velocity"}
STRAIGHT = {"arm": 7, "other_arm": 2, "wheel": 2, "gripper": 1, "base": 3, "measured_base": 2,
            "wrist": 0}  # fmt: skip
UNITS = {"arm": "rad", "other_arm": "deg", "wheel": "rad", "base": "m/s, m/s, rad/s",
         "measured_base": "m/s"}  # fmt: skip


def make_group(name, control_hz, rng):
    """An action group by name, with limits that are random but fit the rate of commands."""
    if name == "valve":
        hold = "rest" if rng.random() < 0.5 else "keep"
        return ActionGroup(name, "discrete", ("open",), hold=hold, values=(0.0, 0.5, 1.0), rest=0.0)
    rotation = ROTATIONS.get(name, "")
    straight = STRAIGHT.get(name, 3)
    n = straight + WRITTEN.get(rotation, 0)
    options = {"unit": UNITS.get(name, "m"), "rotation": rotation}
    if name == "gripper":
        options["measured_range"] = (0.08, 0.0) if rng.random() < 0.3 else (0.0, 0.08)
    if name == "wheel":
        options["continuous"] = (f"{name}0",)
    size = 10 ** rng.uniform(-1, 1)
    low = -size * rng.uniform(0.0, 1.0, n)
    high = size * rng.uniform(0.1, 1.0, n)
    slow = 3.0 if rng.random() < 0.2 else 0.0  # limits that are tiny for the rate of commands
    velocity = (high - low) * control_hz * 10 ** (rng.uniform(-3, -0.7, n) - slow)
    acceleration = velocity * control_hz * 10 ** rng.uniform(-2, 0.5, n)
    velocity[straight:] = control_hz * 10 ** (rng.uniform(-3, 0.7) - slow)
    acceleration[straight:] = velocity[straight:] * control_hz * 10 ** rng.uniform(-2, 0.5)
    return ActionGroup(
        name, KINDS.get(name, "pose" if rotation else "joint_position"),
        tuple(f"{name}{i}" for i in range(n)),
        measured_by="" if name == "base" else f"{name}_state",
        limits=Limits(*map(tuple, (low, high, velocity, acceleration))), **options,
    )  # fmt: skip


def written(turned, representation):
    """Rotations [H] as an action writes them [H, n]."""
    if representation == "rotation_vector":
        return turned.as_rotvec()
    if representation == "rotation_6d":
        return turned.as_matrix()[..., :2, :].reshape(*turned.as_quat().shape[:-1], 6)
    q = turned.as_quat()
    return q if representation == "quaternion_xyzw" else q[..., [3, 0, 1, 2]]


def read(values, representation):
    """Rotations [H] of what an action writes [H, n]."""
    if representation == "rotation_vector":
        return Rotation.from_rotvec(values)
    if representation == "rotation_6d":
        first = values[:, :3] / np.linalg.norm(values[:, :3], axis=1, keepdims=True)
        second = values[:, 3:] - (values[:, 3:] * first).sum(1, keepdims=True) * first
        second /= np.linalg.norm(second, axis=1, keepdims=True)
        return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=1))
    return Rotation.from_quat(
        values if representation == "quaternion_xyzw" else values[:, [1, 2, 3, 0]]
    )


@dataclass
class Figures:
    """What was sent, over all runs: largest velocity and acceleration are relative to limits."""

    commands: int = 0
    velocity: float = 0.0
    acceleration: float = 0.0
    not_finite: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other):
        self.commands += other.commands
        self.velocity = max(self.velocity, other.velocity)
        self.acceleration = max(self.acceleration, other.acceleration)
        self.not_finite += other.not_finite
        self.problems += other.problems


@dataclass
class Sent:
    """What the robot was sent between connect() and stop().

    measured: {group: where it was read to be, as a command [n], in the last usable reading before
        the first command}; seen: {observation: when that was}.
    """

    measured: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # when the call returned
    commands: list[np.ndarray] = field(default_factory=list)
    stops: int = 0
    after_stop: int = 0


@dataclass(frozen=True)
class Plant:
    """How the robot follows, and how it is measured. Seconds, and units of the action.

    lag: time constant of following. sag: how far it hangs below its setpoint, as a share of its
    range. delay: how long ago it was measured. noise: as a share of the range.
    """

    lag: float = 0.05
    sag: float = 0.01
    delay: float = 0.01
    noise: float = 1e-4


class SimulatedArm(Robot):
    """A robot of groups as make_group makes them.

    near_edge: seconds; other than 0 it starts as near to the edge of its box, inside or outside, as
        it moves in that time.
    on_command, on_observe: called in these calls, to stall or raise. look: what becomes of a
        sane reading.
    An observation "other" (1 number) is there besides, for policies that see nothing else.
    """

    def __init__(
        self, clock, groups, plant=Plant(), rng=None, *, near_edge=0.0,
        on_command=lambda: None, on_observe=lambda: None, look=lambda reading: reading,
    ):  # fmt: skip
        self.clock, self.plant, self.rng = clock, plant, rng or np.random.default_rng(0)
        self.on_command, self.on_observe, self.look = on_command, on_observe, look
        spec = ActionSpec.of(*groups)
        channels = {
            group.measured_by: Channel((group.size,), rotations=_quaternions(group))
            for group in groups
            if group.measured_by
        }
        self.spec = RobotSpec(channels | {"other": Channel((1,))}, spec)
        self.runs: list[Sent] = []
        self.holds = 0
        # (time, setpoint, where it was then): what is in force from each command on
        at = self._random_start(near_edge)
        self._history = [(-np.inf, at, at)]

    def connect(self):
        self.runs.append(Sent())

    def observe(self):
        self.on_observe()
        now = self.clock.now()
        state = self._state(now - self.plant.delay)
        values = {"other": np.zeros(1, np.float32)}
        for group, part in self.spec.action.parts:
            if group.measured_by:
                values[group.measured_by] = self._measured(group, state[part])
        reading = self.look(Reading(now - self.plant.delay, values))
        if reading is not None and not self.runs[-1].commands:
            self._remember(reading, now)
        return reading

    def _remember(self, reading, now):
        """Where each group was read to be, if the reading says so: newer, finite, a rotation."""
        run = self.runs[-1]
        for group in self.spec.action.groups:
            name = group.measured_by
            if not run.seen.get(name, -np.inf) <= reading.time <= now:
                continue
            if not name:
                run.measured[group.name] = np.zeros(group.size)
            elif _is_usable(group, reading.values[name]):
                run.measured[group.name] = _as_command(group, reading.values[name])
                run.seen[name] = reading.time

    def command(self, action):
        run, now = self.runs[-1], self.clock.now()
        run.after_stop += run.stops
        run.times.append(now)
        run.commands.append(np.array(action))
        self._history.append((now, np.array(action), self._state(now)))
        self.on_command()
        run.ends.append(self.clock.now())

    def hold(self):
        self.holds += 1

    def stop(self):
        self.runs[-1].stops += 1

    def close(self):
        pass

    def _state(self, time):
        """Where it is [A] at a time: rotations and discrete numbers without lag."""
        since, setpoint, then = next(h for h in reversed(self._history) if h[0] <= time)
        left = 0.0 if since == -np.inf else np.exp(-(time - since) / self.plant.lag)
        state = setpoint + (then - setpoint) * left
        for group, part in self.spec.action.parts:
            moving = group.size - WRITTEN.get(group.rotation, 0)
            state[part][moving:] = setpoint[part][moving:]
        return state

    def _measured(self, group, state):
        plant = self.plant
        moving = group.size - WRITTEN.get(group.rotation, 0)
        span = np.subtract(group.limits.high, group.limits.low)[:moving]
        seen = np.array(state)
        seen[:moving] += plant.noise * span * self.rng.standard_normal(moving)
        if group.kind in ("joint_position", "pose"):
            seen[:moving] -= plant.sag * span
        if group.continuous:
            seen[0] = (seen[0] + np.pi) % (2 * np.pi) - np.pi
        if group.measured_range:
            shut, opened = group.measured_range
            seen = shut + (seen - group.limits.low) / span * (opened - shut)
        if "quaternion" in group.rotation and self.rng.random() < 0.5:
            seen[moving:] *= -1
        return seen.astype(np.float32)

    def _random_start(self, near_edge):
        parts = []
        for group in self.spec.action.groups:
            if group.limits is None:
                parts.append(np.zeros(group.size))
                continue
            low, high = np.array(group.limits.low), np.array(group.limits.high)
            at = low + self.rng.uniform(0.05, 0.95, group.size) * (high - low)
            if near_edge:
                at = self.rng.choice([low, high], axis=0) if group.size > 1 else low
                step = np.array(group.limits.velocity) * near_edge
                at = at + self.rng.uniform(-1, 1, group.size) * step
            if group.rotation:
                turned = Rotation.from_rotvec(self.rng.uniform(-2, 2, 3))
                at[-WRITTEN[group.rotation] :] = written(turned, group.rotation)
            parts.append(np.zeros(group.size) if group.kind in ("twist", "joint_velocity") else at)
        return np.concatenate(parts)

    def examine(self, control_hz, max_missed, braked):
        """Figures of the newest run; braked: whether it had to end at rest."""
        return examine(self.runs[-1], self.spec.action, 1 / control_hz, max_missed, braked)


def _is_usable(group, seen):
    turned = seen[-WRITTEN[group.rotation] :] if group.rotation else np.ones(1)
    is_rotation = turned.any() or group.rotation == "rotation_vector"
    return seen.shape == (group.size,) and np.isfinite(seen).all() and is_rotation


def _as_command(group, seen):
    """The command [n] that keeps a group where it is measured."""
    seen = seen.astype(np.float64)
    if group.measured_range:
        shut, opened = group.measured_range
        low, high = np.array(group.limits.low), np.array(group.limits.high)
        seen = low + (seen - shut) * (high - low) / (opened - shut)
    return seen


def _quaternions(group):
    return ((3, group.rotation),) if "quaternion" in group.rotation else ()


# The hard limits ----------------------------------------------------------------------------------


def examine(sent, spec, period, max_missed, braked):
    """Figures of what was sent in one run, against the definitions of the limits."""
    figures = Figures(commands=len(sent.commands))
    problems = figures.problems
    if sent.stops != 1:
        problems.append(f"stop() was called {sent.stops} times")
    if sent.after_stop:
        problems.append(f"{sent.after_stop} commands after stop()")
    if not sent.commands:
        return figures
    commands = np.stack(sent.commands)
    figures.not_finite = int((~np.isfinite(commands)).sum())
    if figures.not_finite:
        problems.append("not finite")
        return figures
    times, ends = np.array(sent.times), np.array(sent.ends[: len(sent.times) - 1])
    if len(ends) and (times[1:] - ends).min() < 0.25 * period * (1 - 1e-6):
        problems.append(f"commands {(times[1:] - ends).min() / period:.3f} periods apart")
    gap = np.diff(times) / period
    certainly, perhaps = np.floor(gap + 1e-6) - 1, np.ceil(gap - 1e-6) - 1
    rested = (certainly > max_missed, perhaps > max_missed)
    for group, part in spec.parts:
        _examine_group(figures, group, commands[:, part], sent.measured[group.name], period, rested)
    for group, part in spec.parts if braked else ():
        problems += _not_at_rest(group, commands[:, part])
    return figures


def _examine_group(figures, group, commands, measured, period, rested):
    problems = figures.problems
    if group.limits is None:
        if not np.isin(commands, group.values).all():
            problems.append(f"{group.name}: not one of its values")
        return
    m = group.size - WRITTEN.get(group.rotation, 0)
    limits = group.limits
    low, high = np.array(limits.low), np.array(limits.high)
    speed, change = np.array(limits.velocity), np.array(limits.acceleration)
    endless = np.array([name in group.continuous for name in group.names[:m]], bool)
    straight = commands[:, :m]
    outside = (straight < low[:m]) | (straight > high[:m])
    if (outside & ~endless).any():
        problems.append(f"{group.name}: outside its box")
    inside = np.where(endless, measured[:m], np.clip(measured[:m], low[:m], high[:m]))
    if (np.abs(straight[0] - measured[:m]) > speed[:m] * period * (1 + TOLERANCE)).any():
        problems.append(f"{group.name}: first command {straight[0]} far from {measured[:m]}")
    velocity = np.diff(np.vstack([inside, straight]), axis=0) / period
    _compare(figures, group, "", velocity, speed[:m], change[:m], period, rested)
    if m < group.size:
        turned = read(np.vstack([measured[m:], commands[:, m:]]), group.rotation)
        spin = (turned[1:] * turned[:-1].inv()).as_rotvec() / period
        length = np.linalg.norm(commands[:, m:], axis=1)
        if "quaternion" in group.rotation and np.abs(length - 1).max() > 1e-9:
            problems.append(f"{group.name}: a quaternion of length {length.max()}")
        limits = speed[m:].min(), change[m:].min()
        _compare(figures, group, "rotation", spin, *limits, period, rested)


def _compare(figures, group, what, velocity, speed, change, period, rested):
    """velocity [N, m] of N commands, the first of which starts at rest."""

    def relative(vectors, limit):
        if what == "rotation":
            return np.linalg.norm(vectors, axis=1) / limit
        return (np.abs(vectors) / limit).max(axis=1, initial=0.0)

    fast = relative(velocity, speed)
    before = np.vstack([np.zeros_like(velocity[:1]), velocity[:-1]])
    moving = relative((velocity - before) / period, change)
    if group.kind not in ("twist", "joint_velocity"):
        from_rest = relative(velocity / period, change)
        certainly, perhaps = (np.concatenate([[False], each]) for each in rested)
        moving = np.where(perhaps, np.minimum(moving, from_rest), moving)
        moving = np.where(certainly, from_rest, moving)
    for name, values in (("velocity", fast), ("acceleration", moving)):
        worst = float(values.max())
        setattr(figures, name, max(getattr(figures, name), worst))
        if not worst <= 1 + TOLERANCE:
            k = int(values.argmax())
            which = f"command {k} of {len(values)}"
            figures.problems.append(
                f"{group.name} {what} {name} {worst:.6g} of its limit at {which}"
            )


def _not_at_rest(group, commands):
    if group.kind in ("twist", "joint_velocity"):
        return [] if not commands[-1].any() else [f"{group.name}: ends at {commands[-1]}, not 0"]
    if group.limits is None:
        end = commands[-1]
        wrong = group.hold == "rest" and (end != group.rest).any()
        return [f"{group.name}: ends at {end}, not at rest"] if wrong else []
    last = commands[-2] if len(commands) > 1 else None
    if last is not None and not np.array_equal(last, commands[-1]):
        return [f"{group.name}: the last command still moves it, by {commands[-1] - last}"]
    return []

"""Whole runs of the control loop with everything that can go wrong, generated from a seed.

`one_run(random)` takes Python's random.Random, or hypothesis's, builds a robot, a policy and their
faults, runs the loop once or several times, and returns what the robot was sent against its limits.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation
from simulated_arm import GROUPS, WRITTEN, Figures, Plant, SimulatedArm, make_group, written

from dipole.data import WindowSpec
from dipole.data.core.errors import DipoleError
from dipole.deploy import ControlLoop, LoopConfig, Reading, State, VirtualClock
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.types import PolicySpec, Result

RATES = (
    (20, 20),
    (10, 30),
    (25, 50),
    (20, 100),
    (30, 120),
    (10, 100),
    (50, 500),
)  # policy, control
COMMANDS = 40  # of a run, about
STYLES = ("smooth", "pace", "pace", "jumps", "edges", "noise", "beyond", "still", "far")
NONSENSE = ("nan", "infinite", "shape", "dtype", "empty", "huge", "no key", "no rotation")
READINGS = ("frozen", "nan", "none", "stale", "backwards", "future", "shape", "no rotation")


@dataclass
class Outcome:
    """Of one generated run: figures of what was sent; counts of holds, stalls, resumes, ..."""

    figures: Figures = field(default_factory=Figures)
    counts: Counter = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)


class StallingClock(VirtualClock):
    """Wakes up late where `late` has a moment: a process that was not scheduled, or stopped."""

    def __init__(self):
        super().__init__(start=100.0)
        self.late = []  # (moment, seconds), the next one last

    def sleep_until(self, deadline):
        super().sleep_until(deadline)
        if self.late and self.now() >= self.late[-1][0]:
            super().sleep_until(self.now() + self.late.pop()[1])


class Stalls:
    """Seconds that a call takes, at its nth time: {n: seconds}, or None to raise."""

    def __init__(self, clock, at):
        self.clock, self.at, self.n = clock, at, -1

    def __call__(self):
        self.n += 1
        seconds = self.at.get(self.n, 0.0)
        if seconds is None:
            raise OSError("the cable is out")
        if seconds:
            self.clock.advance(seconds)


class Policy:
    """Chunks of one style or another, some of which make no sense."""

    def __init__(self, random, rng, spec, window, dt, nonsense):
        self.random, self.rng, self.spec, self.window, self.dt = random, rng, spec, window, dt
        self.nonsense, self.fates = nonsense, {}
        self.style = random.choice(STYLES)
        self.scale = rng.uniform(0.05, 1.0)
        self.hertz = 10 ** rng.uniform(-1.5, 0.7)
        self.phase = rng.uniform(0, 6, spec.size)
        self.axis = rng.standard_normal(3)
        self.turn = 10 ** rng.uniform(-1, 1)

    def __call__(self, ticket, _observation, _known=None):
        h = self.window.horizon
        t = ticket.observation_time + (np.arange(h) - self.window.n_obs_steps + 1) * self.dt
        style = self.style if self.random.random() < 0.7 else self.random.choice(STYLES)
        chunk = np.concatenate(
            [self._numbers(group, part, style, t) for group, part in self.spec.parts], axis=1
        )
        if self.random.random() < 0.5:
            chunk = chunk.astype(np.float32)
        if self.random.random() < self.nonsense:
            return self._spoilt(chunk, self.random.choice(NONSENSE))
        return {"action": chunk}

    def _numbers(self, group, part, style, t):
        h, n, rng = len(t), group.size, self.rng
        if group.limits is None:
            return rng.choice([*group.values, 0.4], (h, n))
        low, high = np.array(group.limits.low), np.array(group.limits.high)
        middle, half = (low + high) / 2, (high - low) / 2
        pace = np.array(group.limits.velocity) * self.scale * 1.2 / 1.3
        sine = np.sin(6.28 * self.hertz * t[:, None] + self.phase[part])
        numbers = (
            middle
            + half
            * {
                "smooth": lambda: self.scale * sine,
                "pace": lambda: 1.3 * _triangle(t[:, None] * pace / half + self.phase[part]),
                "jumps": lambda: np.repeat(rng.uniform(-1, 1, (-(-h // 4), n)), 4, axis=0)[:h],
                "edges": lambda: np.sign(sine),
                "noise": lambda: np.clip(self.scale * rng.standard_normal((h, n)), -1, 1),
                "beyond": lambda: 1.5 * sine,
                "still": lambda: np.zeros((h, n)),
                "far": lambda: 2.9 * np.sign(sine),
            }[style]()
        )
        if group.continuous:
            turns = numbers[:, 0] * 10 ** rng.uniform(0, 1)
            numbers[:, 0] = (turns + np.pi) % (2 * np.pi) - np.pi if rng.random() < 0.7 else turns
        if group.rotation:
            numbers[:, -WRITTEN[group.rotation] :] = self._rotations(group.rotation, style, t)
        return numbers

    def _rotations(self, representation, style, t):
        h, rng = len(t), self.rng
        turns = {
            "smooth": lambda: self.turn * np.sin(6.28 * self.hertz * t)[:, None] * self.axis,
            "still": lambda: np.tile(self.axis, (h, 1)),
            "edges": lambda: np.pi * np.sign(np.sin(6.28 * self.hertz * t))[:, None] * self.axis,
            "beyond": lambda: self.turn * t[:, None] * self.axis,
        }.get(style, lambda: 2 * rng.standard_normal((h, 3)))()
        numbers = written(Rotation.from_rotvec(turns), representation)
        if "quaternion" in representation:
            numbers = numbers * rng.choice([-1.0, 1.0, 0.3, -20.0], (h, 1))
        if representation == "rotation_vector" and rng.random() < 0.3:
            numbers = numbers * (1 + 2 * np.pi / np.linalg.norm(numbers, axis=1, keepdims=True))
        if representation == "rotation_6d":
            numbers = numbers * rng.uniform(0.2, 3.0, (h, 1)) + rng.uniform(-0.1, 0.1, (h, 6))
        return numbers

    def _spoilt(self, chunk, how):
        row, column = self.rng.integers(len(chunk)), self.rng.integers(chunk.shape[1])
        spoilt = chunk.astype(np.float64)
        value = {"nan": np.nan, "infinite": -np.inf, "huge": 10.0 ** self.rng.uniform(5, 308)}
        if how in value:
            spoilt[row, column] = value[how]
        if how == "no rotation":
            spoilt[row] = 0.0
        return {
            "shape": {"action": spoilt[:, :-1]}, "empty": {"action": spoilt[:0]},
            "dtype": {"action": spoilt.astype(str)}, "no key": {"actions": spoilt},
        }.get(how, {"action": spoilt})  # fmt: skip


def _triangle(x):
    """Between -1 and 1, up and down with a slope of 1."""
    return 1 - np.abs(x % 4 - 2)


class FaultyInference(VirtualInference):
    """fates: what becomes of the nth request: "lost", "error", "twice"; dies_at: of which poll."""

    def __init__(self, spec, compute, clock, delay, fates, dies_at):
        super().__init__(spec, compute, clock, delay)
        self.fates, self.dies_at, self.asked, self.polled = fates, dies_at, 0, 0

    def submit(self, request):
        fate = self.fates.get(self.asked)
        self.asked += 1
        if fate == "lost":
            self.deliver(Result(request.ticket, None, 0.0, lost=True), self._delay(request.ticket))
        elif fate == "error":
            self.deliver(Result(request.ticket, None, 0.0, error="no"), 0.0)
        else:
            for _ in range(2 if fate == "twice" else 1):
                super().submit(request)

    def poll(self):
        self.polled += 1
        if self.polled == self.dies_at:
            raise InferenceDied("out of memory")
        return super().poll()


class Sensors:
    """What becomes of sane readings while a fault lasts: (from, to, kind)."""

    def __init__(self, clock, faults, quaternions):
        self.clock, self.faults, self.quaternions = clock, faults, quaternions
        self.last = None

    def __call__(self, reading):
        now = self.clock.now()
        kind = next((kind for start, end, kind in self.faults if start <= now < end), "")
        if not kind or (kind == "frozen" and self.last is None):
            self.last = reading
            return reading
        values = dict(reading.values)
        if kind in ("nan", "shape"):
            for name, value in values.items():
                values[name] = np.full_like(value, np.nan) if kind == "nan" else value[:0]
        if kind == "no rotation":
            for name in self.quaternions:
                values[name] = np.zeros_like(values[name])
        shift = {"stale": -1.0, "backwards": -0.05, "future": 1.0}.get(kind, 0.0)
        return {"none": None, "frozen": self.last}.get(kind, Reading(reading.time + shift, values))


def one_run(random, names=GROUPS):
    """A robot, a policy and their faults by chance; returns the Outcome of its runs.

    names: of the groups it may have.
    """
    rng = np.random.default_rng(random.getrandbits(32))
    policy_hz, control_hz = random.choice(RATES)
    count = random.choice((1, 1, 1, 2, 3))
    groups = [make_group(name, control_hz, rng) for name in random.sample(names, count)]
    clock = StallingClock()
    seconds = COMMANDS / control_hz * random.choice((0.5, 1.0, 2.0))
    config = _config(random, policy_hz, control_hz)
    near_edge = random.random() < 0.2
    arm = SimulatedArm(
        clock, groups, _plant(random, control_hz), rng, near_edge=near_edge / control_hz
    )
    outcome = Outcome()
    stalls = _stalls(random, outcome, control_hz)
    arm.on_command = Stalls(clock, stalls(0.3, raising=True))
    arm.on_observe = Stalls(clock, stalls(0.3, raising=True))
    heartbeat = Stalls(clock, stalls(0.3))
    arm.look = _sensors(random, arm, clock, seconds)
    loop = None
    for attempt in range(random.choice((1, 1, 1, 2))):
        inference = _inference(random, rng, arm, config, clock)
        if loop is None:
            loop = ControlLoop(
                arm, inference, config, clock=clock, log=outcome.story.append, heartbeat=heartbeat
            )
        else:
            clock.advance(random.choice((0.0, 1.0)))
            loop.reset(inference)
            outcome.counts["resets"] += 1
        _run(random, loop, arm, clock, seconds, outcome, stalls)
        if outcome.figures.problems:
            outcome.story.append(f"attempt {attempt}: {config}")
            outcome.story += [repr(group) for group in groups]
            break
    loop.close()
    outcome.counts["stalls"] += sum(
        1 for each in (arm.on_command, arm.on_observe, heartbeat)
        for n, how in each.at.items() if n <= each.n and how
    )  # fmt: skip
    return outcome


def _run(random, loop, arm, clock, seconds, outcome, stalls):
    """One run of the loop, from prepare() to the robot's stop()."""
    outcome.counts["runs"] += 1
    begin = clock.now()
    late = [(begin + n * loop.config.period, s) for n, s in stalls(0.5).items()]
    clock.late = sorted(late, reverse=True)
    if random.random() < 0.3:
        clock.call_at(begin + random.random() * seconds, lambda: loop.request_stop("asked to"))
    try:
        loop.prepare()
    except DipoleError as error:
        outcome.counts["never started"] += 1
        if arm.runs[-1].commands:
            outcome.figures.problems.append(f"commands before motion was allowed: {error}")
        return
    loop.arm()
    arm.runs[-1].seen.clear()  # so does the loop: it looks anew
    try:
        report = loop.run(seconds)
    except Exception as error:
        outcome.figures.problems.append(f"run() raised {type(error).__name__}: {error}")
        return
    outcome.counts["stalls"] += len(late) - len(clock.late)
    reason = loop.states.reason
    if reason.startswith("a command"):
        outcome.figures.problems.append(f"only the gate stopped it: {reason}")
    cut = any("braking was cut short: the robot's" in note for note in report.notes)
    faulted = loop.states.state is State.FAULT and reason.startswith("the robot's")
    outcome.counts["faults"] += loop.states.state is State.FAULT
    outcome.counts["holds"] += report.counts["holds"]
    names = [str(transition.state) for transition in report.transitions]
    outcome.counts["resumes"] += sum(pair == ("HOLD", "RUN") for pair in itertools.pairwise(names))
    outcome.counts["missed slots"] += report.counts["missed_slots"]
    outcome.counts["chunks refused"] += report.counts["chunks_refused"]
    outcome.counts["chunks used"] += report.counts["chunks_accepted"]
    braked = not (faulted or cut)
    outcome.figures.add(arm.examine(loop.config.control_hz, loop.config.max_missed, braked))


def _config(random, policy_hz, control_hz):
    choose = random.choice
    merger = choose(("switch", "switch", "cross_fade", "ensemble", "rtc"))
    return LoopConfig(
        policy_hz=policy_hz, control_hz=control_hz, n_action_steps=choose((None, 1, 2, 3)),
        merger=merger, interpolation=choose(("linear", "cubic", "step")),
        max_observation_age=choose((0.1, 0.3)), max_action_lateness=choose((0.2, 1.0)),
        inference_timeout=choose((0.2, 2.0)), max_hold=choose((None, 0.2, 30.0)),
        max_limited=choose((None, 0.2, 5.0)), max_approach=choose((None, 0.2)),
        max_braking=1e9, max_missed=choose((0, 1, 2, 2, 5)),
        refuse_beyond=choose((1.0, 1.0, 1e6, 1e300)),
        align_to=choose((None, None, "other")), call_timeout=choose((0.1, 10.0)),
    )  # fmt: skip


def _plant(random, control_hz):
    lag, delay = random.choice((0.01, 1.0, 10.0)), random.choice((0.0, 1.0, 3.0))
    return Plant(lag=lag / control_hz, delay=delay / control_hz, sag=random.choice((0.0, 0.02)),
                 noise=random.choice((0.0, 1e-3)))  # fmt: skip


def _stalls(random, outcome, control_hz):
    """Makes {when: seconds}: when in calls or slots."""

    def stalls(chance, raising=False):
        found = {}
        while random.random() < chance and len(found) < 3:
            periods = random.choice((0.3, 0.6, 0.9, 1.5, 2.4, 3.5, 6.2, 30.0))
            found[random.randrange(2 * COMMANDS)] = periods / control_hz
        if raising and random.random() < 0.03:
            found[random.randrange(2 * COMMANDS)] = None
        return found

    return stalls


def _sensors(random, arm, clock, seconds):
    faults = []
    while random.random() < 0.4 and len(faults) < 3:
        start = clock.now() + random.random() * seconds
        faults.append((start, start + random.random() * seconds, random.choice(READINGS)))
    turned = [g.measured_by for g in arm.spec.action.groups if g.rotation]
    return Sensors(clock, faults, turned)


def _inference(random, rng, arm, config, clock):
    window = WindowSpec(*random.choice(((1, 4, 2), (2, 8, 4), (2, 16, 8), (1, 16, 16))))
    shapes = {name: channel.shape for name, channel in arm.spec.observation.items()}
    seen = shapes if random.random() < 0.5 else {"other": (1,)}
    spec = PolicySpec(seen, arm.spec.action.size, window, inpaints=True)
    policy = Policy(
        random, rng, arm.spec.action, window, 1 / config.policy_hz, random.choice((0.0, 0.3))
    )
    longest = random.choice((0.0, 0.5, 3.0, 8.0)) / config.policy_hz
    delay = lambda _ticket: float(rng.uniform(0, longest))  # noqa: E731
    fates = {
        random.randrange(8): random.choice(("lost", "error", "twice"))
        for _ in range(random.choice((0, 0, 1, 3)))
    }
    dies_at = random.randrange(2 * COMMANDS) if random.random() < 0.1 else None
    return FaultyInference(spec, policy, clock, delay, fates, dies_at)

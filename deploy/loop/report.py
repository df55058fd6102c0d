"""What a run of the control loop was like, for a person and for a program."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from dipole.deploy.loop.clock import Clock
from dipole.deploy.loop.states import Transition
from dipole.deploy.robots.action_math import by_group
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.safety.command_filter import Command
from dipole.deploy.types import Floats

IN_UNITS = ("seam_jump", "jerk", "deviation")  # samples that are no durations
KEEP = 100_000  # values of one kind; beyond it every second one is kept, then every fourth, ...


class Samples:
    """Values of one kind: their number, quantiles and maximum, in bounded memory."""

    def __init__(self) -> None:
        self.count = 0
        self.maximum = 0.0
        self._stride = 1
        self._kept = array("d")

    def add(self, value: float) -> None:
        if self.count % self._stride == 0:
            self._kept.append(value)
            if len(self._kept) >= KEEP:
                self._kept, self._stride = self._kept[::2], self._stride * 2
        self.maximum = value if not self.count else max(self.maximum, value)
        self.count += 1

    def values(self) -> Floats:
        """What was kept: everything, unless there was very much."""
        return np.array(self._kept, np.float64)

    def summary(self, scale: float = 1.0) -> dict[str, float | int]:
        """{count, p50, p99, max}, the values times `scale`."""
        if not self.count:
            return {"count": 0}
        p50, p99 = np.quantile(np.asarray(self._kept), [0.5, 0.99]) * scale
        return {
            "count": self.count,
            "p50": float(p50),
            "p99": float(p99),
            "max": self.maximum * scale,
        }


class Report:
    """Counts and durations of one run; the loop writes, anybody reads.

    counts: slots, missed_slots, late_slots, actions, starved, chunks, chunks_<verdict>, holds,
        commands, clamped (commands that met a limit), clamps_<limit>, delays_too_long (chunks asked
        for with a longer delay than the merger was trained to bridge), ...
    samples, in seconds unless they say otherwise: lateness, observation_age, inference,
        section_<name>, behind (how far commands lag behind actions, at full speed), and seam_jump
        and jerk in the action's units, of several groups seam_jump_<group> and jerk_<group>;
        deviation: how far a group was measured from its last command, by group in the same way, and
        by unit where a group has several: deviation_<group>_<unit>.
    units: of samples, where they are known.
    close_problem: what went wrong in the robot's close(); "" for nothing, None before it.
    as_asked: whether the run ended because its time was up or somebody asked; False: by a fault, or
        because the loop gave up (max_hold, max_limited, max_approach).
    """

    def __init__(self, clock: Clock, control_hz: float) -> None:
        self.counts: Counter[str] = Counter()
        self.samples: dict[str, Samples] = {}
        self.units: dict[str, str] = {}
        self.transitions: list[Transition] = []
        self.stopped: bool | None = None  # whether the robot's own stop() returned
        self.dry_run = False
        self.close_problem: str | None = None
        self.as_asked = False
        self.seconds = 0.0
        self.notes: list[str] = []
        self.clock = clock
        self._control_hz = control_hz
        self._recent: list[Floats] = []  # the last actions, for their jerk

    def sample(self, name: str, value: float) -> None:
        if (samples := self.samples.get(name)) is None:
            samples = self.samples[name] = Samples()
        samples.add(value)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time a part of the loop's body."""
        started = self.clock.now()
        try:
            yield
        finally:
            self.sample(f"section_{name}", self.clock.now() - started)

    def acted(self, action: Floats, dt: float, spec: ActionSpec) -> None:
        """An action [A], as decided at the policy's rate: every dt seconds."""
        self.counts["actions"] += 1
        self._recent = [*self._recent[-3:], action]
        if len(self._recent) == 4:
            third = np.diff(np.stack(self._recent), n=3, axis=0)[0] / dt**3
            for group, part in by_group(third, spec).items():
                self.sample(f"jerk{group}", float(np.linalg.norm(part)))

    def commanded(self, command: Command) -> None:
        """A command that was sent."""
        self.counts["commands"] += 1
        self.counts["clamped"] += bool(command.clamps)
        for limit in command.clamps:
            self.counts[f"clamps_{limit.replace(' ', '_')}"] += 1
        self.sample("behind", command.behind)

    def deviated(self, largest: Mapping[str, tuple[float, str]]) -> None:
        """How far the robot is from its last command; see Deviation.largest."""
        for name, (value, unit) in largest.items():
            self.units[f"deviation{name}"] = unit
            self.sample(f"deviation{name}", value)

    def paused(self) -> None:
        """The motion was interrupted: no jerk across it."""
        self._recent = []

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times in milliseconds where the name says so."""
        in_units = tuple(name for name in self.samples if name.startswith(IN_UNITS))
        return {
            "seconds": self.seconds,
            "control_hz": self._control_hz,
            "state": str(self.transitions[-1].state) if self.transitions else "IDLE",
            "reason": self.transitions[-1].reason if self.transitions else "",
            "as_asked": self.as_asked,
            "stopped": self.stopped,
            "closed": None if self.close_problem is None else not self.close_problem,
            "counts": dict(sorted(self.counts.items())),
            **{
                name if name in in_units else f"{name}_ms": samples.summary(
                    1.0 if name in in_units else 1000.0
                )
                | ({"unit": self.units[name]} if self.units.get(name) else {})
                for name, samples in sorted(self.samples.items())
            },
            "transitions": [asdict(t) | {"state": str(t.state)} for t in self.transitions],
            "notes": self._all_notes,
        }

    @property
    def _all_notes(self) -> list[str]:
        if not self.close_problem:
            return self.notes
        return [*self.notes, f"the robot's close() did not succeed: {self.close_problem}"]

    def __str__(self) -> str:
        """A page for a person."""
        plain, counts = self.to_dict(), self.counts
        lines = [
            f"ended {plain['state']}: {plain['reason']}",
            f"robot stopped   {_DRY if self.dry_run else _TRUTH[self.stopped]}",
            f"time            {self.seconds:.1f} s, {counts['slots']} slots at "
            f"{self._control_hz:g} Hz",
            f"slots           missed {counts['missed_slots']}, late {counts['late_slots']}",
            f"actions         {counts['actions']}",
            f"commands        {counts['commands']}, at a limit {counts['clamped']}"
            + _listed(counts, "clamps_"),
            f"holds           {counts['holds']}, starved slots {counts['starved']}",
            f"chunks          {counts['chunks_accepted']} used of {counts['requests']} asked for"
            + _listed(counts, "chunks_", but="chunks_accepted"),
        ]
        if too_long := counts["delays_too_long"]:
            lines.append(f"delays          longer than the trained prefix for {too_long} chunks")
        if refused := _listed(counts, "readings_"):
            lines.append(f"readings refused{refused}")
        lines += [
            f"{name:<24} p50 {s['p50']:9.3f}   p99 {s['p99']:9.3f}   max {s['max']:9.3f}"
            + f" {s.get('unit', '')}".rstrip()
            for name, s in plain.items()
            if isinstance(s, dict) and s.get("count") and "p50" in s
        ]
        return "\n".join(lines + self._all_notes)


_DRY = "not asked to: a dry run"
_TRUTH = {
    None: "not asked to",
    True: "yes, its stop() returned",
    False: "NOT KNOWN: its stop() failed or did not return. Use the hardware's emergency stop",
}


def _listed(counts: Counter[str], prefix: str, but: str = "") -> str:
    found = [
        f"{name.removeprefix(prefix).replace('_', ' ')} {count}"
        for name, count in sorted(counts.items())
        if name.startswith(prefix) and name != but and count
    ]
    return f" ({', '.join(found)})" if found else ""

"""A recording as demonstrations: what the policy was shown, and what was then commanded.

    act       a0        a1        a2     (hold)     a3       at the policy's rate
    command   c c c c   c c c c   c c c             c c c c  at the control rate
    frame     o0, c3    o1, c7    -                 o3, ...  an observation, the last command of it
    episode   |-------- 1 -------|                  |-- 2 ...

An episode ends wherever the motion was not whole: at a hold, a stop or a fault, at an action that
came too late or not at all, and where records were dropped.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.recording.episode_writer import EpisodeWriter
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.recording.contents import (
    Begin,
    Readable,
    explained,
    open_recording,
    reading_of,
)
from dipole.deploy.recording.file_format import Record
from dipole.deploy.robots.action_math import nearest_equal
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.types import Floats

Frame = dict[str, np.ndarray]
EARLY, LATE = 0.5, 1.5  # of an action's duration: the next one has to come between these
RESTARTS = ("IDLE", "ARMED")  # what was seen before them is forgotten
ENDS = ("STOPPED", "FAULT", *RESTARTS)


@dataclass
class Exported:
    """What came of a recording.

    ends: Why episodes ended, and how often. too_short: Episodes that were left out.
    notes: What a person has to know. damage: Where the recording could not be read any further.
    """

    episodes: int = 0
    frames: int = 0
    too_short: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    damage: str = ""


def to_dataset(path: Path, output: Path, shortest: int = 16) -> Exported:
    """Write a recording as demonstrations.

    path, output: The recording, and the new dataset.
    shortest: Episodes of fewer frames are left out.

    Of a damaged recording, what comes before the damage is exported. Raises DataError for a dry
    run, for a recording without an episode, and where `output` exists.
    """
    begin, records = open_recording(path)
    if begin.dry_run:
        raise DataError(
            f"{path}: a dry run. Nothing was sent, so what it saw does not follow from its "
            "actions, and they are no demonstrations"
        )
    told = Exported()
    if begin.dry_run is None:
        told.notes.append("recordings of format 1 do not say whether they were a dry run")
    outcome = _outcome(path)
    task = str(outcome.pop("task", ""))
    source = {"id": "dipole deploy", "version": f"recording {begin.format}", "outcome": outcome}
    with EpisodeWriter(
        output, fps=begin.policy_hz, features=_features(begin), environment=source
    ) as writer:
        for frames in _episodes(begin, records, told):
            if len(frames) < shortest:
                told.too_short += 1
                continue
            writer.add_episode({key: np.stack([f[key] for f in frames]) for key in frames[0]}, task)
            told.episodes, told.frames = told.episodes + 1, told.frames + len(frames)
        if not told.episodes:
            raise DataError(
                f"{path}: no episodes of at least {shortest} frames. {told.too_short} were shorter;"
                f" they ended by: {', '.join(told.ends) or 'nothing, for nothing moved'}"
            )
    return told


def _outcome(path: Path) -> dict[str, Any]:
    """How the task went, where the recording says it; the last word counts."""
    outcome: dict[str, Any] = {}
    for record in Readable(open_recording(path)[1]):
        if record.kind == "outcome":
            outcome |= record.values
    return outcome


def _features(begin: Begin) -> dict[str, dict[str, Any]]:
    """Names and units, for the dataset's schema."""
    if "action" in begin.channels:
        raise DataError(
            f"{begin.path}: the robot's observation has an entry 'action', which in a dataset is "
            "what was commanded"
        )
    known = begin.policy.meaning_of  # where the robot declares nothing
    features: dict[str, dict[str, Any]] = {
        name: {
            "units": channel.units or known(name).units,
            "names": channel.names or known(name).names,
        }
        for name, channel in begin.channels.items()
    }
    units = begin.action_units if any(begin.action_units) else known("action").units
    alike = set(units) if isinstance(units, tuple) else {units}
    action = {"units": units if len(alike) > 1 else alike.pop(), "names": begin.action_names}
    return features | {"action": action}


def _episodes(begin: Begin, records: Iterator[Record], told: Exported) -> Iterator[list[Frame]]:
    """The episodes of a recording, which are never empty."""
    cutter = _Cutter(begin, told.ends)
    read = Readable(records)
    for number, record in enumerate(read):
        with explained(f"{begin.path}: record {number} after the beginning"):
            ended = cutter.take(record)
        if ended:
            yield ended
    told.damage = read.damage
    if ended := cutter.end("damage" if told.damage else "the recording's end"):
        yield ended


class _Cutter:
    """Collects frames, and hands out an episode wherever one ends.

    ends: Why they ended, counted.
    """

    def __init__(self, begin: Begin, ends: Counter[str]) -> None:
        self._begin, self._ends = begin, ends
        self._dt, self._period = 1 / begin.policy_hz, 1 / begin.control_hz
        with explained(f"{begin.path}: the recording's beginning"):
            self._observations = ObservationBuffer(
                begin.policy,
                begin.sensor_latency,
                align_to=begin.align_to,
                channels=begin.channels,
                also=begin.measured_by,
                groups=begin.groups,
            )
        # Of format 1, which knew no joints without an end, nothing is known.
        self._action = ActionSpec.of(*begin.groups) if begin.groups else None
        self._frames: list[Frame] = []
        self._shown: Frame | None = None  # for the present action; None while there is none
        self._began = self._sent_at = 0.0
        self._sent: np.ndarray | None = None  # what was commanded last for it

    def take(self, record: Record) -> list[Frame]:
        """Take in a record; the episode that ended before it, or nothing."""
        if set(record.missing) - {"result"}:
            ended = self.end("missing records")
            self.take(replace(record, missing={}))
            return ended
        if record.kind == "act":
            return self._act(record)
        if record.kind == "command":
            self._sent, self._sent_at = record.arrays["command"], record.values["now"]
        elif record.kind == "state":
            return self._state(str(record.values["state"]))
        return []

    def end(self, reason: str) -> list[Frame]:
        """The episode that ends here; the action that is under way is no part of it."""
        self._shown = None
        if self._frames:
            self._ends[reason] += 1
        frames, self._frames = self._frames, []
        return frames

    def _act(self, record: Record) -> list[Frame]:
        now = record.values["now"]
        on_time = EARLY * self._dt < now - self._began < LATE * self._dt
        reason = self._finish() if on_time else "an action that was late or missing"
        ended = self.end(reason) if reason else []
        self._observations.update(reading_of(record), now)
        self._began, self._sent, self._shown = now, None, None
        if "action" not in record.arrays:
            return ended or self.end("hold")
        problem = self._look()
        return ended or (self.end(problem) if problem else [])

    def _state(self, state: str) -> list[Frame]:
        """A braking ramp is no part of an action; what was sent before it may be all of one."""
        whole = self._sent_at >= self._began + self._dt - 1.5 * self._period
        if state in ("STOPPING", "STOPPED") and whole:
            self._finish()
        if state == "STOPPING":
            self._shown = None
        if state in RESTARTS:
            self._observations.reset()
        return self.end(state) if state in ENDS else []

    def _look(self) -> str:
        """Keep what the policy is shown; why that is no frame, or ""."""
        latest = self._observations.latest
        values = {} if latest is None else latest.values
        for name, channel in self._begin.channels.items():
            if name not in values or values[name].shape != channel.shape:
                return f"{name} that is missing, or of another shape"
            if not np.isfinite(values[name]).all():
                return f"{name} that is not finite"
        self._shown = {name: values[name] for name in self._begin.channels}
        return ""

    def _finish(self) -> str:
        """Add the frame of the action that is over; why there is none, or ""."""
        if self._shown is None:
            return ""
        sent = self._sent
        if sent is None:
            return "an action of which nothing was sent"
        if sent.shape != (len(self._begin.action_names),) or not np.isfinite(sent).all():
            return "a command that is not finite"
        try:
            action = self._as_observed(sent, self._shown)
        except ValueError as error:
            return f"a command that sets no rotation ({error})"
        self._frames.append({**self._shown, "action": action})
        return ""

    def _as_observed(self, sent: Floats, shown: Frame) -> Floats:
        """A command [A] as a policy learns it: beside what the frame measures.

        A continuous joint's command counts on past a full turn, a rotation's past half of one,
        where their measurements begin again: an angle within half a turn of the measured one, and
        a quaternion of its sign, are the same command. Raises ValueError for no rotation.
        """
        action = self._action
        if action is None or not any(g.continuous or g.turning for g in action.groups):
            return sent
        measured = np.concatenate([group.measured(shown) for group in action.groups])
        return nearest_equal(sent, measured, action)

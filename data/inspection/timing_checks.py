"""Clocks that jump, cameras that froze, time in which nothing moves."""

from collections.abc import Iterator, Mapping

import numpy as np

from dipole.data.inspection.findings import counted, times_text
from dipole.data.inspection.recording_checks import Recording
from dipole.data.transforms.idle import (
    counted_steps,
    idle_end,
    idle_start,
    idle_stretches,
    tolerances,
)

GAP = 1.5  # frames, from which on something is missing between two time stamps
LONGEST_STEP = 10.0  # seconds between two frames
RATE = 0.05  # share by which the clock's rate may differ from the dataset's
STILL = 0.01  # share of a number's range within which it stands still
IDLE_SECONDS = 1.0
IDLE_FRAMES = 20  # where the rate is not known
IDLE_SHARE = 0.05  # of all frames, from which on idle time is said
MOVES = 0.05  # share of a number's range that is a motion


class ClockCheck:
    """Time stamps that run back, leave a gap, or have another rate than the dataset says."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        clocks = [key.name for key in recording.keys.values() if key.is_clock]
        self._clocks = {name: _Clock() for name in clocks}

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        for name, clock in self._clocks.items():
            if numbers[name].shape[1] == 1:
                clock.add(start, numbers[name][:, 0])

    def warnings(self) -> Iterator[tuple[str, str]]:
        for name, clock in self._clocks.items():
            for message in clock.messages(self._recording):
                yield name, message


class _Clock:
    def __init__(self) -> None:
        self.steps: list[np.ndarray] = []
        self.starts: list[int] = []

    def add(self, start: int, stamps: np.ndarray) -> None:
        self.steps.append(np.diff(stamps))
        self.starts.append(start)

    def messages(self, recording: Recording) -> Iterator[str]:
        steps = np.concatenate(self.steps) if self.steps else np.zeros(0)
        if not len(steps):
            return
        frames = [n + 1 + np.arange(len(s)) for n, s in zip(self.starts, self.steps, strict=True)]
        at, usual = np.concatenate(frames), float(np.median(steps))
        back = np.flatnonzero(steps <= 0)
        if len(back):
            yield (
                f"time stands still or runs back at {recording.frame(int(at[back[0]]))}, and "
                f"{times_text(len(back))} in all: frames are out of order or twice. Mend the "
                "recording, or leave the episode out"
            )
        gaps = np.flatnonzero(steps > GAP * usual) if usual > 0 else back[:0]
        if len(gaps):
            worst = int(gaps[np.argmax(steps[gaps])])
            yield (
                f"{counted(len(gaps), 'gap')}, the longest of {steps[worst] / usual:.1f} frames "
                f"before {recording.frame(int(at[worst]))}: frames are missing. Leave the episode "
                "out, or record it again"
            )
        # Stamps that are no seconds, such as nanoseconds, say nothing of the rate.
        if recording.fps is not None and 0 < usual < LONGEST_STEP:
            rate = 1 / usual
            if abs(rate / recording.fps - 1) > RATE:
                yield (
                    f"frames are {rate:.4g} a second by these time stamps, and the dataset says "
                    f"{recording.fps:g}: correct fps, or resample"
                )


class FrozenCameraCheck:
    """Cameras whose frames stay the same while the state moves."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        fps = recording.fps
        self._least = IDLE_FRAMES if fps is None else max(round(IDLE_SECONDS * fps), 3)
        states = [key for key in recording.keys.values() if key.moves and key.kind == "state"]
        self._states = states or [key for key in recording.keys.values() if key.moves]
        self._found: dict[str, list[tuple[int, int]]] = {}

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        stop = start + (len(next(iter(numbers.values()))) if numbers else 0)
        for camera, repeats in self._recording.repeats.items():
            inside = [
                (max(a, start), min(b, stop - 1)) for a, b in repeats if b > start and a < stop
            ]
            for first, last in inside:
                long = last - first >= self._least
                if long and self._moved(numbers, first - start, last - start):
                    self._found.setdefault(camera, []).append((first, last))

    def _moved(self, numbers: Mapping[str, np.ndarray], first: int, last: int) -> bool:
        for key in self._states:
            part = numbers[key.name][first : last + 1]
            travelled = part.max(0) - part.min(0)
            travelled[~np.isnan(counted_steps(numbers[key.name]))] = 0  # counters and clocks
            if (travelled > MOVES * np.maximum(key.high - key.low, 1e-12)).any():
                return True
        return False

    def warnings(self) -> Iterator[tuple[str, str]]:
        for camera, found in self._found.items():
            first, last = max(found, key=lambda run: run[1] - run[0])
            yield (
                camera,
                f"its frames stay the same for {self._recording.seconds(last - first)} from "
                f"{self._recording.frame(first)} on while the state moves, and "
                f"{times_text(len(found))} in all: did the camera freeze? Leave those episodes out",
            )


class IdleCheck:
    """Time in which neither the action nor the state moves."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._keys = [key for key in recording.keys.values() if key.moves]
        spans = [tolerances(key.low, key.high, STILL) for key in self._keys]
        self._reach = np.concatenate(spans) if spans else np.zeros(0)
        widths = [len(each) for each in spans]
        self._may_count = np.repeat([key.kind != "action" for key in self._keys], widths)
        fps = recording.fps
        self._least = IDLE_FRAMES if fps is None else max(round(IDLE_SECONDS * fps), 2)
        self._at_ends: list[int] = []
        self._between: list[tuple[int, int]] = []

    def add(self, start: int, numbers: Mapping[str, np.ndarray]) -> None:
        if not self._keys:
            return
        values = np.concatenate([numbers[key.name] for key in self._keys], 1)
        counters = ~np.isnan(counted_steps(values)) & self._may_count
        reach = np.where(counters, np.inf, self._reach)
        if not np.isfinite(reach).any():
            return
        before, after = idle_start(values, reach), idle_end(values, reach)
        if before == len(values):
            self._at_ends.append(len(values))
            return
        self._at_ends += [n for n in (before, after) if n >= self._least]
        for first, stop in idle_stretches(values, reach, self._least):
            if first >= before and stop <= len(values) - after:
                self._between.append((start + first, stop - first))

    def warnings(self) -> Iterator[tuple[str, str]]:
        total = int(self._recording.ends[-1]) if len(self._recording.ends) else 0
        at_ends, between = sum(self._at_ends), sum(n for _, n in self._between)
        if at_ends > IDLE_SHARE * total:
            longest = self._recording.seconds(max(self._at_ends))
            yield (
                "idle",
                f"nothing moves at the beginning or end of episodes for {at_ends} frames, "
                f"{at_ends / total:.0%} of all and up to {longest}: a policy may learn to wait. "
                "Cut them by --trim idle while converting",
            )
        if between > IDLE_SHARE * total:
            first, frames = max(self._between, key=lambda each: each[1])
            yield (
                "idle",
                f"nothing moves within episodes for {between} frames, {between / total:.0%} of "
                f"all; the longest time, {self._recording.seconds(frames)}, begins at "
                f"{self._recording.frame(first)}. If that is not part of the task, cut it by "
                "--trim idle:all while converting",
            )

"""MCAP recordings of ROS 2 as a source: one recording an episode, resampled to one rate.

A topic becomes a key, "/camera/image" is camera.image; joint states become <topic>.position,
.velocity and .effort. Topics have rates of their own, so the user says the frames a second: frame n
is what had been received by the time start + n / fps, the latest message of each topic. It begins
when every topic taken has sent a message and ends with the topic that falls silent first. A message
may be MAX_AGE seconds old at most. Times are those of the recorder's clock (log_time).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.mcap.messages import (
    NotTakenError,
    Part,
    dtype_of,
    frame_of,
    parts_of,
)
from dipole.data.sources.mcap.recording import MessageDecoder, find_recordings, messages
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    frames_of,
    is_valid_key,
)
from dipole.data.store.schema import FrameSchema
from dipole.data.store.tasks import TaskSpans

LOOKED_AT = 256  # messages of a topic that tell whether float64 is needed
MAX_AGE = 0.5  # seconds that a frame's message may have been received before the frame


class McapSource:
    """Reads the recordings at `path`; see `Source`. Without `at_rate` no episode can be opened."""

    def __init__(self, path: Path) -> None:
        self._recordings = find_recordings(path)
        if not self._recordings:
            raise DataError(f"{path}: no MCAP recordings in it")
        self._refs = [EpisodeRef(n, name=_name(files)) for n, files in enumerate(self._recordings)]
        self._parts: dict[str, tuple[str, Part]] = {}  # key → topic and part of its messages
        left_out: dict[str, str] = {}
        for topic, found in _first_messages(self._recordings[0]).items():
            if isinstance(found, str):
                left_out[topic] = found
                continue
            for part in found:
                key = ".".join([*(word for word in topic.split("/") if word), part.name]).strip(".")
                if is_valid_key(key):
                    self._parts[key] = (topic, part)
                else:
                    left_out[topic] = f"no key can be called {key!r}"
        frames = {
            key: replace(part.schema, kind="action") if key == "action" else part.schema
            for key, (_, part) in sorted(self._parts.items())
        }
        self.info = SourceInfo(path, "MCAP of ROS 2", frames, left_out=left_out)

    def at_rate(self, fps: float) -> "McapSource":
        """The same with frames, this many a second."""
        warning = (
            f"{self.info.path}: its topics are taken at {fps:g} frames a second, of each the last "
            f"message received by then, at most {MAX_AGE:g} s old"
        )
        history = (f"resampled to {fps:g}",)
        return self._with(replace(self.info, fps=fps, warnings=(warning,), history=history))

    def only(self, keys: Sequence[str]) -> "McapSource":
        """The same with these keys only: the others' topics do not bound the frames."""
        return self._with(replace(self.info, frames=frames_of(self.info, keys), left_out={}))

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        if self.info.fps is None:
            raise DataError(
                f"{self.info.path}: the topics of an MCAP have rates of their own. Say at how many "
                "frames a second they are taken: --fps N"
            )
        taken = {key: self._parts[key] for key in self.info.frames}
        return _Episode(ref, self._recordings[ref.id], taken, self.info.frames, self.info.fps)

    def close(self) -> None:
        pass

    def _with(self, info: SourceInfo) -> "McapSource":
        other = object.__new__(McapSource)
        other._recordings, other._refs, other._parts = self._recordings, self._refs, self._parts
        other.info = info
        return other


class _Episode:
    """One recording: numbers are read once when it is opened, pictures when they are asked for."""

    tasks: TaskSpans = ()

    def __init__(
        self,
        ref: EpisodeRef,
        files: list[Path],
        parts: dict[str, tuple[str, Part]],
        frames: dict[str, FrameSchema],
        fps: float,
    ) -> None:
        self.ref, self._files, self._parts, self._frames = ref, files, parts, frames
        self._place = f"{files[0]}: episode {ref.id}"
        topics = {topic for topic, _ in parts.values()}
        self._numbers: dict[str, list[np.ndarray]] = {}
        times = self._read_once(topics)
        for topic in sorted(topics):
            if not times[topic]:
                raise DataError(f"{self._place}: nothing of {topic}. Leave the episode or key out")
        self._times = {topic: np.array(stamps, np.int64) for topic, stamps in times.items()}
        start = max(stamps[0] for stamps in self._times.values())
        end = min(stamps[-1] for stamps in self._times.values())
        self.n_frames = int((end - start) * fps / 1e9 + 1e-6) + 1 if end >= start else 0
        # Rounded, so that frame n is the message of time n / fps where one has that time.
        self._ticks = start + np.round(np.arange(self.n_frames) * (1e9 / fps)).astype(np.int64)
        if not self.n_frames:
            raise DataError(f"{self._place}: its topics share no time. Leave the episode out")
        self._latest = {
            topic: np.searchsorted(stamps, self._ticks, side="right") - 1
            for topic, stamps in self._times.items()
        }
        for topic in sorted(topics):
            self._check_ages(topic, fps)

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        topic, _ = self._parts[key]
        wanted = self._latest[topic][start:stop]
        shape = self._frames[key].shape or ()
        if not len(wanted):
            return np.empty((0, *shape), self._frames[key].dtype)
        if key in self._numbers:
            return np.stack([self._numbers[key][n] for n in wanted])
        pictures = self._pictures(key, int(wanted[0]), int(wanted[-1]), set(wanted.tolist()))
        return np.stack([pictures[n] for n in wanted.tolist()])

    def clip(self, key: str) -> None:
        return None

    def _read_once(self, topics: set[str]) -> dict[str, list[int]]:
        """When each topic's messages came; what is no picture is kept."""
        times: dict[str, list[int]] = {topic: [] for topic in topics}
        small = {
            key: (topic, part)
            for key, (topic, part) in self._parts.items()
            if len(part.schema.shape or ()) < 2
        }
        for topic, kind, time, decode in messages(self._files, topics):
            if times[topic] and time < times[topic][-1]:
                raise DataError(
                    f"{self._place}, {topic}: message {len(times[topic])} was logged before the "
                    "one that precedes it, so the files are not in order of time"
                )
            number = len(times[topic])
            times[topic].append(time)
            decoded = None
            for key, (of_topic, part) in small.items():
                if of_topic == topic:
                    decoded = decode() if decoded is None else decoded
                    where = f"{self._place}, {topic}, message {number}"
                    self._numbers.setdefault(key, []).append(frame_of(kind, decoded, part, where))
        return times

    def _pictures(self, key: str, first: int, last: int, wanted: set[int]) -> dict[int, np.ndarray]:
        """Frames of the topic's messages with these numbers, of which these are first and last."""
        topic, part = self._parts[key]
        stamps = self._times[topic]
        number = int(np.searchsorted(stamps, stamps[first], side="left"))
        frames: dict[int, np.ndarray] = {}
        bounds = int(stamps[first]), int(stamps[last]) + 1
        for _, kind, _, decode in messages(self._files, [topic], *bounds):
            if number in wanted:
                where = f"{self._place}, {topic}, message {number}"
                frames[number] = frame_of(kind, decode(), part, where)
            number += 1
        return frames

    def _check_ages(self, topic: str, fps: float) -> None:
        ages = (self._ticks - self._times[topic][self._latest[topic]]) / 1e9
        if ages.max() > MAX_AGE:
            frame = int((ages > MAX_AGE).argmax())
            raise DataError(
                f"{self._place}: at frame {frame} ({frame / fps:.2f} s) the last message of "
                f"{topic} is {ages[frame]:.2f} s old, more than {MAX_AGE:g} s. It was silent, or "
                "is sent only when something changes: leave the key or the episode out"
            )


def _name(files: list[Path]) -> str:
    return files[0].stem if len(files) == 1 else files[0].parent.name


def _first_messages(files: list[Path]) -> dict[str, list[Part] | str]:
    """By topic, what its first message holds, or why it is not taken; numbers in the dtype that the
    first messages need."""
    found: dict[str, list[Part] | str] = {}
    numbers: dict[str, list[list[np.ndarray]]] = {}  # by topic: of each message, those of its parts
    counts: dict[str, int] = {}
    for topic, kind, _, decode in messages(files):
        counts[topic] = counts.get(topic, 0) + 1
        if topic not in found:
            try:
                found[topic] = parts_of(kind, decode())
            except NotTakenError as error:
                found[topic] = f"{kind}: {error}"
            except DataError as error:
                found[topic] = str(error)
        parts = found[topic]
        if counts[topic] <= LOOKED_AT and isinstance(parts, list):
            with suppress(DataError):  # said with its episode when that is read
                _look_at(kind, parts, decode, numbers.setdefault(topic, []))
    for topic, count in counts.items():
        if count == 1:
            found[topic] = "one message in the whole recording"
    return {topic: _typed(parts, numbers.get(topic, [])) for topic, parts in found.items()}


def _look_at(
    kind: str, parts: list[Part], decode: MessageDecoder, numbers: list[list[np.ndarray]]
) -> None:
    """Add the vectors of a message to `numbers`; pictures are not decoded."""
    if all(len(part.schema.shape or ()) == 1 for part in parts):
        message = decode()
        numbers.append([frame_of(kind, message, part, "") for part in parts])


def _typed(parts: list[Part] | str, numbers: list[list[np.ndarray]]) -> list[Part] | str:
    """The parts in the dtypes that these numbers need; a reason stays what it is."""
    if isinstance(parts, str) or not numbers:
        return parts
    dtypes = [dtype_of(np.stack(frames)) for frames in zip(*numbers, strict=True)]
    return [
        replace(part, schema=replace(part.schema, dtype=dtype))
        for part, dtype in zip(parts, dtypes, strict=True)
    ]

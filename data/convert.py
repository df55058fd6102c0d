"""Conversion of other people's datasets into an episode store: whole, checked, and resumable.

Everything is written beside the destination, into `.NAME.partial`, and moved there when it has been
read back and found sound. Killed at any instant, the next call with the same words goes on after
the last whole file; with other words it begins anew.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.lock import exclusive
from dipole.data.inspection.validate import validate
from dipole.data.recording.episode_writer import place_store, refuse_existing
from dipole.data.sources.source import Source, SourceEpisode, SourceInfo, frames_of, pieces
from dipole.data.store.array_appender import check_encoding
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip, PacketTable, VideoError, VideoReader, cut, video_error
from dipole.data.store.writer import StoreWriter

Progress = Callable[[int, int, str], object]


@dataclass(frozen=True)
class Selection:
    """What is taken of a source. keys: None for all; episodes: its own numbers, None for all.

    images: keep (video stays video, the rest is stored as zstd), zstd, jxl or jpeg.
    """

    keys: tuple[str, ...] | None = None
    episodes: tuple[int, ...] | None = None
    images: str = "keep"

    def __post_init__(self) -> None:
        if self.images != "keep":
            check_encoding(self.images)

    def of(self, about: SourceInfo) -> SourceInfo:
        """The source with nothing but this; raises DataError for what it does not have."""
        frames = frames_of(about, self.keys)
        numbers = {episode.number for episode in about.episodes}
        for number in self.episodes or ():
            if number not in numbers:
                raise DataError(
                    f"{about.path}: no episode {number}; there are {len(numbers)}, "
                    f"{min(numbers)} to {max(numbers)}"
                )
        chosen = [e for e in about.episodes if self.episodes is None or e.number in self.episodes]
        _refuse_absent(about, frames, chosen)
        return replace(about, frames=frames, episodes=chosen)


def convert(
    source: Source,
    path: Path,
    selection: Selection | None = None,
    progress: Progress = lambda done, total, what: None,
) -> None:
    """Write what is selected of a source to an episode store at `path`, a folder or a .zip.

    Raises DataError, naming episode and frame, for what cannot be read, and where `path` exists.
    progress: called with frames done, frames in all, and what is done now.
    """
    selection = selection or Selection()
    about = selection.of(source.about)
    if "action" not in about.frames:
        raise DataError(
            f"{about.path}: no key 'action' is taken, and without one nothing is learnt"
        )
    with work_folder(path, request(about, selection)) as work:
        builder = StoreWriter(
            work / "store", "zstd" if selection.images == "keep" else selection.images
        )
        keep = selection.images == "keep"
        _Copy(source, about, builder, work, keep, progress).run()
        progress(1, 1, "reading it back")
        found = validate(builder.folder)
        if not found.ok:
            first = found.problems[0]
            raise DataError(
                f"{path}: what was written is not sound, so it was not put there ({first.where}: "
                f"{first.message}). If the source is sound, the disk is not"
            )
        place_store(builder.folder, path)


class _Copy:
    """One conversion under way."""

    def __init__(
        self,
        source: Source,
        about: SourceInfo,
        builder: StoreWriter,
        work: Path,
        keep_video: bool,
        progress: Progress,
    ) -> None:
        self._source, self._about, self._builder = source, about, builder
        self._work, self._keep_video, self._progress = work, keep_video, progress
        self._total = len(about.frames) * sum(e.n_frames for e in about.episodes)
        self._done = 0
        self._reader: VideoReader | None = None  # of the clip that is decoded now
        self._videos = [
            key
            for key, schema in about.frames.items()
            if schema.storage == "video" and keep_video and self._is_clip(key)
        ]

    def run(self) -> None:
        ends: list[int] = []
        for episode in self._about.episodes:
            start = ends[-1] if ends else 0
            for key, schema in self._about.frames.items():
                self._progress(self._done, self._total, f"episode {episode.number}, {key}")
                self._copy(episode, key, schema, start)
                self._done += episode.n_frames
            ends.append(start + episode.n_frames)
        self._builder.finish(ends, self._attributes(), [e.task for e in self._about.episodes])

    def _copy(self, episode: SourceEpisode, key: str, schema: FrameSchema, start: int) -> None:
        place = f"{self._about.path}: {key!r}, episode {episode.number}"
        clip = self._source.clip(episode, key)
        if clip is not None and key in self._videos:
            self._copy_video(place, key, clip)
            return
        array = self._builder.array(key, schema.shape or (), np.dtype(schema.dtype))
        written = array.n_frames - start  # by an attempt that ended here
        if written >= episode.n_frames:
            return
        read = self._source.read if clip is None else self._decoder(place, clip)
        for first, stop in pieces(schema, episode.n_frames, max(written, 0)):
            frames = schema.fit(place, read(episode, key, first, stop))
            array.append(frames)
            self._progress(self._done + stop, self._total, f"episode {episode.number}, {key}")

    def _copy_video(self, place: str, key: str, clip: Clip) -> None:
        if self._about.fps is None:
            raise DataError(f"{place}: video, and its frames per second are not recorded")
        try:
            self._builder.add_video(key, clip, self._about.fps)
        except VideoError as error:
            raise video_error(f"{place}, {clip.path.name}", error) from error

    def _decoder(self, place: str, clip: Clip) -> Callable[..., np.ndarray]:
        """Reads frames of a clip, in order; it is cut out first, so that they are found."""
        target = self._work / "clip.mp4"
        place = f"{place}, {clip.path.name}"

        def read(_: SourceEpisode, __: str, start: int, stop: int) -> np.ndarray:
            frames: list[np.ndarray] = []
            try:
                for frame in reader.frames(range(start + offset, stop + offset)):
                    frames.append(frame)
                return np.stack(frames)
            except VideoError as error:
                # The message counts from the key frame at which the cut begins.
                where = f"{place}, frame {start + len(frames)} of {clip.n_frames}"
                raise video_error(where, error) from error

        if self._reader is not None:
            self._reader.close()
        try:
            table = PacketTable.of(clip.path)
            offset = clip.start_frame - table.span(clip)[0]
            target.unlink(missing_ok=True)
            cut(clip, target, self._about.fps or 1.0, table)
            self._reader = reader = VideoReader(open(target, "rb"))  # noqa: SIM115  closed by it
        except VideoError as error:
            raise video_error(place, error) from error
        return read

    def _is_clip(self, key: str) -> bool:
        return self._source.clip(self._about.episodes[0], key) is not None

    def _attributes(self) -> dict[str, Any]:
        schema = {}
        for key, frame in self._about.frames.items():
            storage = "video" if key in self._videos else ""
            schema[key] = replace(frame, storage=storage).to_dict()
        attributes: dict[str, Any] = {"schema": schema}
        if self._about.fps is not None:
            attributes["fps"] = self._about.fps
        if self._about.environment:
            attributes["environment"] = self._about.environment
        return attributes


@contextmanager
def work_folder(path: Path, words: dict[str, Any]) -> Iterator[Path]:
    """The folder beside `path` to work in, as an earlier attempt with the same words left it.

    It is removed at the end, and left as it is after an exception. Raises DataError where `path`
    exists, or another process works there.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.parent / f".{path.name}.partial"
    work.mkdir(exist_ok=True)
    with exclusive(work / "lock", str(path)):
        noted = work / "request.json"
        if not noted.exists() or noted.read_text() != json.dumps(words, sort_keys=True):
            for entry in work.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
            noted.write_text(json.dumps(words, sort_keys=True))
        yield work
        shutil.rmtree(work)


def request(about: SourceInfo, selection: Selection) -> dict[str, Any]:
    """What must be the same for an unfinished conversion to be gone on with."""
    return {
        "source": str(about.path.resolve()),
        "changed": _newest(about.path),
        "also": [[str(path.resolve()), _newest(path)] for path in about.also],
        "mirror": about.mirror,
        "fps": about.fps,
        "environment": about.environment,
        "episodes": [[e.number, e.n_frames, e.task] for e in about.episodes],
        "keys": {key: frame.to_dict() for key, frame in about.frames.items()},
        "images": selection.images,
        "selection": asdict(selection),
    }


def _newest(path: Path) -> int:
    """When the newest of a source's files was changed, nanoseconds."""
    files: Sequence[Path] = [*path.rglob("*")] if path.is_dir() else [path]
    return max((file.stat().st_mtime_ns for file in files), default=0)


def _refuse_absent(
    about: SourceInfo, frames: dict[str, FrameSchema], chosen: list[SourceEpisode]
) -> None:
    for key in frames:
        absent = set(about.absent.get(key, ())) & {episode.number for episode in chosen}
        if absent:
            usable = sorted({episode.number for episode in chosen} - absent)
            can = f"episodes={spans(usable)}" if usable else "no episode has it"
            without = ",".join(name for name in frames if name not in about.absent)
            raise DataError(
                f"{about.path}: the videos of {key!r} are missing for {len(absent)} of "
                f"{len(chosen)} episodes ({spans(sorted(absent))}). Those that have them can be "
                f"used with {can}; all of them without it with keys={without}"
            )


def spans(numbers: Sequence[int]) -> str:
    """Numbers for a person: "0-3,5,7-9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)

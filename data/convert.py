"""Conversion of other people's datasets into an episode store: whole, checked, and resumable.

Everything is written beside the destination, into `.NAME.partial`, and moved there when it has been
read back and found sound. Killed at any instant, the next call with the same words goes on after
the last whole file; with other words it begins anew.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.lock import exclusive
from dipole.data.inspection.validate import validate
from dipole.data.recording.episode_writer import place_store, refuse_existing
from dipole.data.sources.combine.joined import newest_change
from dipole.data.sources.combine.selected import refuse_absent
from dipole.data.sources.source import Source, SourceEpisode, frame_ranges
from dipole.data.sources.words import ConversionRequest, open_request
from dipole.data.store.array_appender import check_encoding
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip, PacketTable, VideoError, VideoReader, cut, video_error
from dipole.data.store.writer import StoreWriter

Progress = Callable[[int, int, str], object]


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion wrote.

    path: The dataset that was written.
    format: Of the source.
    left_out: Keys of the source that were not taken, and why.
    warnings: What was odd in the source.
    """

    path: Path
    format: str
    n_episodes: int
    n_frames: int
    left_out: dict[str, str]
    warnings: tuple[str, ...]


def run(
    request: ConversionRequest, progress: Progress = lambda done, total, what: None
) -> ConversionReport:
    """Convert as requested; see `convert`."""
    source = open_request(request)
    try:
        return convert(source, Path(request.destination).expanduser(), request.images, progress)
    finally:
        source.close()


def convert(
    source: Source,
    path: Path,
    images: str = "keep",
    progress: Progress = lambda done, total, what: None,
) -> ConversionReport:
    """Write a source to an episode store at `path`, a folder or a .zip.

    images: keep (video stays video, the rest is stored as zstd), zstd, jxl or jpeg.
    progress: Called with frames done, frames in all, and what is done now.

    Raises DataError, naming episode and frame, for what cannot be read, and where `path` exists.
    """
    if images != "keep":
        check_encoding(images)
    info = source.info
    refuse_absent(source)
    if "action" not in info.frames:
        raise DataError(f"{info.path}: no key 'action' is taken, and without one nothing is learnt")
    with work_folder(path, {"images": images, **conversion_identity(source)}) as work:
        builder = StoreWriter(work / "store", "zstd" if images == "keep" else images)
        ends = _Copy(source, builder, work, images == "keep", progress).run()
        progress(1, 1, "reading it back")
        found = validate(builder.folder)
        if not found.ok:
            first = found.problems[0]
            raise DataError(
                f"{path}: what was written is not sound, so it was not put there ({first.where}: "
                f"{first.message}). If the source is sound, the disk is not"
            )
        place_store(builder.folder, path)
    info = source.info
    return ConversionReport(
        path, info.format, len(ends), ends[-1], dict(info.left_out), info.warnings
    )


class _Copy:
    """One conversion under way."""

    def __init__(
        self,
        source: Source,
        builder: StoreWriter,
        work: Path,
        keep_video: bool,
        progress: Progress,
    ) -> None:
        self._source, self._info, self._builder = source, source.info, builder
        self._work, self._keep_video, self._progress = work, keep_video, progress
        self._refs = source.episodes()
        self._total = len(self._info.frames) * sum(ref.n_frames or 0 for ref in self._refs)
        self._done = 0
        self._reader: VideoReader | None = None  # of the clip that is decoded now
        self._videos: list[str] | None = None

    def run(self) -> list[int]:
        ends: list[int] = []
        tasks: list[str] = []
        for ref in self._refs:
            episode = self._source.open(ref)
            if self._videos is None:
                self._videos = [
                    key
                    for key, schema in self._info.frames.items()
                    if schema.storage == "video" and self._keep_video and episode.clip(key)
                ]
            start = ends[-1] if ends else 0
            for key, schema in self._info.frames.items():
                self._progress(self._done, self._total, f"episode {ref.id}, {key}")
                self._copy(episode, key, schema, start)
                self._done += episode.n_frames
            ends.append(start + episode.n_frames)
            tasks.append(episode.tasks[0][1] if episode.tasks else "")
        self._builder.finish(ends, self._attributes(), tasks)
        return ends

    def _copy(self, episode: SourceEpisode, key: str, schema: FrameSchema, start: int) -> None:
        place = f"{self._info.path}: {key!r}, episode {episode.ref.id}"
        clip = episode.clip(key)
        if clip is not None and key in (self._videos or ()):
            self._copy_video(place, key, clip)
            return
        array = self._builder.array(key, schema.shape or (), np.dtype(schema.dtype))
        written = array.n_frames - start  # by an attempt that ended here
        if written >= episode.n_frames:
            return
        read = episode.read if clip is None else self._decoder(place, clip)
        for first, stop in frame_ranges(schema, episode.n_frames, max(written, 0)):
            frames = schema.fit(place, read(key, first, stop))
            array.append(frames)
            self._progress(self._done + stop, self._total, f"episode {episode.ref.id}, {key}")

    def _copy_video(self, place: str, key: str, clip: Clip) -> None:
        if self._info.fps is None:
            raise DataError(f"{place}: video, and its frames per second are not recorded")
        try:
            self._builder.add_video(key, clip, self._info.fps)
        except VideoError as error:
            raise video_error(f"{place}, {clip.path.name}", error) from error

    def _decoder(self, place: str, clip: Clip) -> Callable[..., np.ndarray]:
        """Reads frames of a clip, in order; it is cut out first, so that they are found."""
        target = self._work / "clip.mp4"
        place = f"{place}, {clip.path.name}"

        def read(_: str, start: int, stop: int) -> np.ndarray:
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
            cut(clip, target, self._info.fps or 1.0, table)
            self._reader = reader = VideoReader(open(target, "rb"))  # noqa: SIM115  closed by it
        except VideoError as error:
            raise video_error(place, error) from error
        return read

    def _attributes(self) -> dict[str, Any]:
        schema = {}
        for key, frame in self._info.frames.items():
            storage = "video" if key in (self._videos or ()) else ""
            schema[key] = replace(frame, storage=storage).to_dict()
        attributes: dict[str, Any] = {"schema": schema}
        if self._info.fps is not None:
            attributes["fps"] = self._info.fps
        if self._info.environment:
            attributes["environment"] = self._info.environment
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


def conversion_identity(source: Source) -> dict[str, Any]:
    """What must be the same for an unfinished conversion to be gone on with."""
    info = source.info
    return {
        "source": str(info.path.resolve()),
        "changed": newest_change(info.path.resolve()),
        "history": list(info.history),
        "fps": info.fps,
        "environment": info.environment,
        "episodes": [[ref.id, ref.n_frames] for ref in source.episodes()],
        "keys": {key: frame.to_dict() for key, frame in info.frames.items()},
    }

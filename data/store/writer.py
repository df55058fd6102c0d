"""An episode store while it is written: arrays, videos and tasks, committed episode by episode.

    store.zarr/
      zarr.json  data/  videos/  meta/    what the finished store consists of
      unfinished/commits                  what has been committed: a journal (journal.py)
      unfinished/camera.3                 shards that are being filled (array_appender.py)

A commit writes no frame twice: full chunks are on the disk already, and the frames behind them,
less than a chunk a key, go into the journal. Opening a folder again goes on after its last commit,
in whatever state a crash left it; opening a finished store appends to it.
"""

import json
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.array_appender import IMAGE_CODECS, ArrayAppender, ArrayState, check_encoding
from dipole.data.store.commits import (
    Record,
    check_lengths,
    committed_by,
    episode_record,
    whole_record,
)
from dipole.data.store.journal import Journal
from dipole.data.store.metadata import FORMAT
from dipole.data.store.numbers import check_numbers, number_lists
from dipole.data.store.previous_attempt import UNFINISHED, clear, is_finished, remove_partial_files
from dipole.data.store.publish import Unflushed, flush_all, write_whole
from dipole.data.store.schema import FrameSchema, check_key, default_kind, is_stored_as_image
from dipole.data.store.tasks import TaskSpans, TaskTable, check_spans
from dipole.data.store.video import Clip, PacketTable, cut
from dipole.data.store.video_array import VideoArray, video_file
from dipole.data.store.zarr.encoding import array_metadata, group_metadata

_LARGE_JOURNAL = 16 * 2**20  # bytes, past which it is written anew where that makes it smaller


class StoreWriter:
    """Writes episodes into a folder, and goes on where the folder has some.

    images: how images are stored that are not in the folder yet, of `array_appender.ENCODINGS`;
    durable: whether a committed episode also survives a power cut, not only the end of the process.

    An episode is what was appended since the last commit. `dropped` says which committed episodes
    were lost, where files were missing or damaged when the folder was opened, or is "".

    >>> import tempfile
    >>> writer = StoreWriter(Path(tempfile.mkdtemp()) / "mine.zarr")
    >>> writer.array("action", (2,), np.dtype(np.float32)).append(np.zeros((30, 2), np.float32))
    >>> writer.commit_episode(30, "stand still")
    >>> writer.finish({"fps": 10.0})
    """

    def __init__(self, folder: Path, images: str = "zstd", durable: bool = False) -> None:
        self.folder = folder
        self.dropped = ""
        self._images, self._durable = check_encoding(images), durable
        self._unfinished = folder / UNFINISHED
        self._ends: list[int] = []
        self._spans: list[TaskSpans] = []
        self._numbers: list[dict[str, int]] = []
        self._arrays: dict[str, ArrayAppender] = {}
        self._committed: dict[str, ArrayState] = {}
        self._checked_from: dict[str, int] = {}  # shards before it were finished by others
        # Of each video key: first frame and bytes of each episode's file.
        self._videos: dict[str, list[tuple[int, int]]] = {}
        self._tables: dict[Path, PacketTable] = {}
        self._unflushed = Unflushed(durable)
        self._journal = Journal(self._unfinished / "commits", durable)
        self._snapshot_bytes = 0
        self._open()

    @property
    def n_episodes(self) -> int:
        """Episodes that are committed."""
        return len(self._ends)

    @property
    def n_frames(self) -> int:
        """Frames of the committed episodes."""
        return self._ends[-1] if self._ends else 0

    @property
    def episode_ends(self) -> list[int]:
        """Where the committed episodes end, exclusive."""
        return [*self._ends]

    @property
    def episode_numbers(self) -> list[dict[str, int]]:
        """What each committed episode has of integers by name."""
        return [dict(numbers) for numbers in self._numbers]

    def array(
        self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], image: bool | None = None
    ) -> ArrayAppender:
        """The array data/<key> to append to, of frames of this shape and dtype.

        image: whether its frames are images, to be stored as `images` says; None asks their shape
        and dtype. Raises DataError for a key that is no plain name, and for frames of another shape
        or dtype than the array has.
        """
        if key not in self._arrays:
            self._create(key, tuple(shape), np.dtype(dtype), image)
        array = self._arrays[key]
        if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
            raise DataError(
                f"{self.folder}: {key!r} holds frames of {array.dtype} {list(array.shape)}, not of "
                f"{np.dtype(dtype)} {list(shape)}"
            )
        return array

    def add_video(self, key: str, clip: Clip, fps: float) -> None:
        """The episode's frames of `key`; raises VideoError where the file has them not."""
        check_key(str(self.folder), key)
        if len(self._videos.get(key, [])) != self.n_episodes:
            raise DataError(f"{self.folder}: {key!r} is not video in every episode, or given twice")
        files = self._videos.setdefault(key, [])
        target = self._inside(video_file(key, len(files)))
        table = self._table(clip.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        cut(clip, target, fps, table)
        self._unflushed.add(target, *self._folders_of(target))
        files.append((clip.start_frame - table.span(clip)[0], target.stat().st_size))

    def commit_episode(
        self,
        n_frames: int,
        tasks: "str | Iterable[Sequence[Any]]" = "",
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        """What was appended since the last commit is an episode of `n_frames`, from now on.

        tasks: what was to be done, in words, or in spans (first frame, words). numbers: integers of
        the episode as a whole. Raises DataError where an array or video has another number of
        frames, or none; then nothing is committed.
        """
        where = f"{self.folder}: episode {self.n_episodes}"
        spans = check_spans(where, tasks, n_frames)
        said = check_numbers(where, numbers or {})
        end = self.n_frames + n_frames
        if n_frames < 1:
            raise DataError(f"{where}: no frames")
        check_lengths(where, self.n_frames, end, self._arrays)
        for key, files in self._videos.items():
            if len(files) != self.n_episodes + 1:
                raise DataError(f"{where}: no video of {key!r}: every episode has the same keys")
        record, content = episode_record(
            end, spans, said, self._videos, self._arrays, self._committed
        )
        self._unflushed.flush()
        self._journal.append(record, content)
        self._ends.append(end)
        self._spans.append(spans)
        self._numbers.append(said)
        self._committed = {key: array.state() for key, array in self._arrays.items()}
        if self._journal.n_bytes > max(_LARGE_JOURNAL, 8 * self._snapshot_bytes):
            with suppress(OSError):  # a full disk: the episode is in the journal as it is
                self._snapshot()

    def complete_numbers(self, name: str, value: int) -> None:
        """Give a number to the committed episodes that lack it, where any has it."""
        if any(name in numbers for numbers in self._numbers):
            for numbers in self._numbers:
                numbers.setdefault(name, value)

    def rollback(self) -> None:
        """Drop what was appended since the last commit."""
        for key in set(self._arrays) - set(self._committed):
            self._arrays.pop(key).close()
            self._remove("data", key)
        for key, state in self._committed.items():
            array = self._arrays[key]
            if array.n_frames != state.n_frames and array.restore(state) < state.n_frames:
                raise DataError(f"{self.folder}: {key!r} can no longer be read; see to the disk")
        self._cut_videos(self.n_episodes)

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Write the last shards, the lists of meta/, and what the dataset says of itself.

        Drops what is not committed. The folder is a whole store afterwards, and the writer is
        closed. Raises DataError without any episode.
        """
        if not self._ends:
            raise DataError(f"{self.folder}: no episodes were committed, so there is no dataset")
        self.rollback()
        for array in self._arrays.values():
            array.finish()
        said: dict[str, Any] = {"dipole_format": FORMAT, **attributes}
        self._write_list("meta/episode_ends", self._ends)
        for key, files in self._videos.items():
            for name in ("videos", f"videos/{key}"):
                self._write_json(f"{name}/zarr.json", group_metadata())
            self._write_list(f"videos/{key}/first_frame", [first for first, _ in files])
        tasks = TaskTable.of(self._spans, self._ends)
        for name in ("task_index", "task_spans"):
            self._remove("meta", name)
        if tasks.recorded:
            said["tasks"] = [*tasks.words]
            self._write_list("meta/task_index", tasks.index)
            if tasks.changes:
                self._write_list("meta/task_spans", tasks.spans)
        for name, values in number_lists(self._numbers).items():
            if values is None:  # of some episodes only
                self._remove("meta", name)
            else:
                self._write_list(f"meta/{name}", values)
        self._write_json("zarr.json", group_metadata(said))
        self.close()
        flush_all(self.folder)  # whatever may be lost until then: without the journal, nothing may
        self._journal.remove()
        shutil.rmtree(self._unfinished)

    def close(self) -> None:
        """Close its files. What was committed stays, to go on with."""
        for array in self._arrays.values():
            array.close()
        self._journal.close()

    # Opening

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(self.folder)
        records = [*self._journal.records()]
        if self._durable and self._journal.n_bytes and not records:
            raise DataError(
                f"{self._unfinished / 'commits'}: damaged from its beginning, so what was recorded "
                f"cannot be gone on with. The frames lie in {self.folder}"
            )
        if records:
            self._replay(records)
        elif is_finished(self.folder):
            self._adopt()
        else:
            clear(self.folder)
        self._unfinished.mkdir(exist_ok=True)
        for name in ("", "data/", "meta/"):
            if not (self.folder / f"{name}zarr.json").is_file():
                self._write_json(f"{name}zarr.json", group_metadata())
        self._snapshot()

    def _adopt(self) -> None:
        """Go on behind the last episode of a finished store."""
        from dipole.data.store.store import EpisodeStore

        store = EpisodeStore.open(self.folder)
        store.require_readable()
        shutil.rmtree(self._unfinished, ignore_errors=True)  # of a `finish` that was cut short
        self._unfinished.mkdir()
        self._ends = store.episode_ends.tolist()
        self._spans = [store.task_spans(episode) for episode in range(store.n_episodes)]
        self._numbers = store.numbers_by_episode()
        for key, stored in store.arrays.items():
            if isinstance(stored, VideoArray):
                self._videos[key] = [
                    (stored.first_frame(n), (self.folder / video_file(key, n)).stat().st_size)
                    for n in range(store.n_episodes)
                ]
                continue
            array = self._arrays[key] = self._appender(key)
            array.adopt()
            self._committed[key] = array.state()
            self._checked_from[key] = array.n_frames // array.shard_length

    def _replay(self, records: list[Record]) -> None:
        """Take the state of the last commit from the journal, and the files back to it."""
        committed = committed_by(records)
        self._ends, self._spans, self._videos = committed.ends, committed.spans, committed.videos
        self._numbers = committed.numbers
        self._checked_from = {key: a.checked_from for key, a in committed.arrays.items()}
        self._remove_uncommitted(committed.arrays)
        sound = {}
        for key, there in committed.arrays.items():
            array = self._arrays[key] = self._appender(key)
            tail = np.frombuffer(there.tail, array.dtype).reshape(-1, *array.shape)
            state = ArrayState(there.n_frames, tuple(there.sizes), tail)
            self._committed[key] = state
            in_last = array.restore(state)
            sound[key] = min(in_last, array.sound_frames(there.checked_from))
        self._drop_unsound(sound)

    def _drop_unsound(self, sound: Mapping[str, int]) -> None:
        """Keep the first episodes of which every frame is there."""
        whole = int(np.searchsorted(self._ends, min(sound.values(), default=0), side="right"))
        whole = whole if sound else len(self._ends)
        for key, files in self._videos.items():
            for number, (_, size) in enumerate(files):
                file = self.folder / video_file(key, number)
                if not file.is_file() or file.stat().st_size != size:
                    whole = min(whole, number)
        lost = len(self._ends) - whole
        if self._journal.damaged:
            self.dropped = (
                f"episodes from number {whole} on, if there were any: the list of them is damaged"
            )
        if lost:
            self.dropped = (
                f"{lost} of {len(self._ends)} episodes, from number {whole} on: "
                "files of theirs are missing or damaged"
            )
        del self._ends[whole:], self._spans[whole:], self._numbers[whole:]
        for key, array in self._arrays.items():
            array.cut(self.n_frames)
            self._committed[key] = array.state()
        self._cut_videos(whole)

    def _remove_uncommitted(self, committed: Container[str]) -> None:
        """Arrays and cameras that came with an episode that was not committed."""
        places: dict[str, Container[str]] = {"data": committed, "videos": self._videos}
        for folder, keys in places.items():
            inside = self.folder / folder
            for entry in inside.iterdir() if inside.is_dir() else ():
                if entry.is_dir() and entry.name not in keys:
                    self._remove(folder, entry.name)

    # Writing

    def _create(
        self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], image: bool | None
    ) -> None:
        check_key(str(self.folder), key)
        if image is None:
            kind = default_kind(key, shape, dtype)
            image = is_stored_as_image(FrameSchema(shape, dtype, kind))
        codec = IMAGE_CODECS.get(self._images, "") if image else ""
        self._write_json(f"data/{key}/zarr.json", array_metadata(shape, dtype, codec))
        self._arrays[key] = self._appender(key)

    def _appender(self, key: str) -> ArrayAppender:
        return ArrayAppender(self.folder, f"data/{key}", self._unfinished / key, self._unflushed)

    def _snapshot(self) -> None:
        """Begin the journal anew with everything that is committed."""
        record, content = whole_record(
            self._ends,
            self._spans,
            self._numbers,
            self._videos,
            self._committed,
            self._checked_from,
        )
        self._unflushed.flush()
        self._journal.start(record, content)
        self._snapshot_bytes = self._journal.n_bytes

    def _cut_videos(self, n_episodes: int) -> None:
        for key, files in [*self._videos.items()]:
            del files[n_episodes:]
            if not files:
                del self._videos[key]
                self._remove("videos", key)
                continue
            for file in (self.folder / "videos" / key).iterdir():
                number = file.name.split(".", 1)[0]
                whole = file.suffix == ".mp4"
                if number.isdecimal() and (int(number) >= n_episodes or not whole):
                    file.unlink()

    def _write_list(self, name: str, numbers: Any) -> None:
        """A small array of integers, whole."""
        values = np.asarray(numbers, np.int64)
        self._remove(*name.rsplit("/", 1))
        self._write_json(f"{name}/zarr.json", array_metadata(values.shape[1:], values.dtype))
        unfinished = self._unfinished / name.replace("/", " ")
        array = ArrayAppender(self.folder, name, unfinished, self._unflushed)
        array.append(values)
        array.finish()

    def _write_json(self, name: str, metadata: Mapping[str, Any]) -> None:
        file = self._inside(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(metadata, indent=2).encode(), durable=False)
        self._unflushed.add(file, *self._folders_of(file))

    def _folders_of(self, file: Path) -> Sequence[Path]:
        """The folders that a new file may have been the first in."""
        return file.parents[: len(file.relative_to(self.folder).parts)]

    def _inside(self, name: str) -> Path:
        """The path of a file to write; raises DataError where a link leads out of the folder."""
        path = self.folder / name
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"{self.folder}: {name} lies outside of it, so it is not written")
        return path

    def _remove(self, folder: str, name: str) -> None:
        shutil.rmtree(self._inside(f"{folder}/{name}"), ignore_errors=True)

    def _table(self, path: Path) -> PacketTable:
        """Remembered for the last file: one may hold many episodes."""
        if path not in self._tables:
            self._tables = {path: PacketTable.of(path)}
        return self._tables[path]

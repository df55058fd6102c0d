"""Writing demonstrations: one call per episode, and nothing that is whole is lost."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.recording.appending import identity, inode, link_store, options_of
from dipole.data.store.array_appender import check_encoding
from dipole.data.store.partial_folder import (
    CONVERSION,
    RECORDING,
    clear_folder,
    locked_folder,
    naming_a_full_disk,
    pack_store,
    partial_folder,
    refuse_existing,
)
from dipole.data.store.publish import exchange, flush, publish, write_whole
from dipole.data.store.schema import EpisodeSchema, FrameSchema, is_stored_as_image
from dipole.data.store.tasks import TaskSpans, check_spans
from dipole.data.store.video import Clip, PacketTable, VideoError, video_error
from dipole.data.store.writer import StoreWriter

_EXAMPLES = {
    "features": "{'joints': {'units': 'rad'}}",
    "environment": "{'id': 'my_robot', 'version': '1'}",
    "attributes": "{'operator': 'A'}",
}


class EpisodeWriter:
    """Writes an episode store: zarr v3, sharded, with checksums, every chunk present.

    path: a folder, or a zip where it ends in ".zip"; fps: frames per second; features: for each
    key, any of kind (state, image, depth, action), shape of a frame, dtype, units and names, to be
    checked and remembered; environment: its id and version; images: how images are stored, "zstd"
    or "jxl" (lossless), or "jpeg"; attributes: what else the dataset is to say of itself, plain
    JSON.

    The dataset appears at `path` when the writer closes. Until then it lies beside it, in
    `.NAME.partial`, and every episode is safe on the disk when `add_episode` returns: after an
    exception, a crash or a power cut `EpisodeWriter.resume(path)` goes on behind the last one.
    Raises DataError where `path` exists, where an unfinished recording lies beside it, and for an
    episode that does not fit the others.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.zarr"
    >>> with EpisodeWriter(path, fps=10) as writer:
    ...     writer.add_episode({"state": np.zeros((30, 5)), "action": np.zeros((30, 2))})
    >>> with EpisodeWriter.resume(path) as writer:
    ...     writer.add_episode({"state": np.ones((30, 5)), "action": np.ones((30, 2))})

    resumed_by: What a user does to go on after an error, in the note to it; "" for nothing.
    """

    resumed_by = ""

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float | None = None,
        features: Mapping[str, Mapping[str, Any]] | None = None,
        environment: Mapping[str, Any] | None = None,
        images: str = "zstd",
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        _check_options(fps, features, environment, attributes)
        EpisodeSchema(features or {})
        options = {
            "fps": None if fps is None else float(fps),
            "features": {key: _plain(entry) for key, entry in (features or {}).items()},
            "environment": None if environment is None else dict(environment),
            "images": check_encoding(images),
            "attributes": dict(attributes or {}),
        }
        self.path = Path(path).expanduser()
        refuse_existing(self.path)
        with self._locked(RECORDING, CONVERSION):
            self._begin(options)

    @classmethod
    def resume(cls, path: str | Path) -> "EpisodeWriter":
        """Go on with an unfinished recording, or append to a finished one, behind its last episode.

        Everything else is as it was begun: features, fps, images. While episodes are appended to a
        finished dataset, it stays as it is, and is exchanged at the end. `dropped` says what of an
        unfinished recording could not be kept, where files are damaged. Raises DataError where
        there is nothing to go on with, where another process writes it, and for a finished zip.
        """
        writer = cls.__new__(cls)
        writer.path = path = Path(path).expanduser()
        work = partial_folder(path)
        if not path.is_dir() and not (work / RECORDING).exists():
            raise _nothing_to_resume(path)
        with writer._locked():
            options = _read_options(work / RECORDING)
            if options is not None and options.get("placed_as") == inode(path) is not None:
                clear_folder(work)  # a crash came between putting it in place and removing this
                options = None
            if options is not None:
                writer._begin(options)
            elif path.is_dir():
                writer._begin(options_of(path), append=True)
            else:
                raise _nothing_to_resume(path)
        return writer

    @contextmanager
    def _locked(self, *others: str) -> Iterator[None]:
        """Lock the folder to work in, and keep it locked unless what is done raises."""
        with ExitStack() as stack:
            self._work = stack.enter_context(locked_folder(self.path, *others))
            yield
            self._stack = stack.pop_all()

    def _begin(self, options: dict[str, Any], append: bool = False) -> None:
        self._options, self._closed = options, False
        if append:
            link_store(self.path, self._work / "store")
        self._write_options()
        self._store = StoreWriter(self._work / "store", options["images"], durable=True)
        self._n_before = self._store.n_episodes if append else 0
        self._schema = self._begun_schema()

    @property
    def n_episodes(self) -> int:
        """Episodes that are in the dataset, those from before `resume` included."""
        return self._store.n_episodes

    @property
    def n_frames(self) -> int:
        """Frames of all these episodes."""
        return self._store.n_frames

    @property
    def episode_numbers(self) -> list[dict[str, int]]:
        """The `numbers` of each episode that is in the dataset."""
        return self._store.episode_numbers

    @property
    def attributes(self) -> dict[str, Any]:
        """What the dataset says of itself beside its keys, rate and environment."""
        return dict(self._options.get("attributes") or {})

    @property
    def dropped(self) -> str:
        """What of an unfinished recording could not be kept, for a person; "" for nothing."""
        return self._store.dropped

    @property
    def unfinished(self) -> Path:
        """The folder in which the dataset lies until it is closed."""
        return self._work

    def add_episode(
        self,
        episode: Mapping[str, Any],
        task: "str | Iterable[Sequence[Any]]" = "",
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        """One episode: {key: [frames, *shape]}, the same keys and shapes each time, with `action`.

        A camera's frames may be a `Clip` of a video file at `fps`, which is kept as video. task:
        what was to be done, in words, or spans (first frame, words) where that changes. numbers:
        integers of the episode as a whole, `{"seed": 7, "success": 1}`: meta/seed, meta/success.
        float64 is stored as float32 unless `features` says otherwise, or stamps would become equal.
        Raises DataError, naming key and frame, for arrays that do not fit or hold NaN, and for
        videos out of step. After any exception the episodes before stay, and others can be added.
        """
        if self._closed:
            raise DataError(f"{self.path}: the writer is closed; EpisodeWriter.resume opens it")
        where = f"{self.path}: episode {self.n_episodes}"
        arrays = self._schema.fit(where, episode)
        n_frames = len(arrays["action"])
        spans = check_spans(where, task, n_frames)
        try:
            with naming_a_full_disk(self._work):
                self._commit(arrays, n_frames, spans, numbers or {})
        except BaseException:
            self._store.rollback()
            self._schema = self._begun_schema()
            raise

    def complete_numbers(self, name: str, value: int) -> None:
        """Give a number to the episodes that lack it, where any has it: without it in all of them
        the finished dataset would have it of none."""
        self._store.complete_numbers(name, value)

    def close(self) -> None:
        """Finish the dataset and put it in its place; raises DataError without any episode."""
        if self._closed:
            return
        if not self.n_episodes:
            self.abandon()
            raise DataError(f"{self.path}: no episodes were added, so nothing is written")
        try:
            with naming_a_full_disk(self._work):
                if self.n_episodes > self._n_before:
                    self._store.finish(self._attributes())
                    self._place()
        except BaseException:
            self.leave()
            raise
        self.abandon()

    def _place(self) -> None:
        before = self._options.get("replaces")
        if before is not None and before != identity(self.path):
            raise DataError(
                f"{self.path}: is no longer the dataset that was appended to. The longer one lies "
                f"in {self._store.folder}: move it to a place of its own"
            )
        written = pack_store(self._store.folder, self.path)
        self._options["placed_as"] = inode(written)
        self._write_options()
        if before is not None:
            exchange(written, self.path)
        else:
            publish(written, self.path)

    def leave(self) -> None:
        """End without a dataset; what was recorded stays beside, for `resume`."""
        self._closed = True
        self._store.close()
        self._stack.close()

    def abandon(self) -> None:
        """End without a dataset: removes what was written so far."""
        self._closed = True
        self._store.close()
        shutil.rmtree(self._work, ignore_errors=True)
        self._stack.close()

    def __enter__(self) -> "EpisodeWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif self._closed:
            pass
        elif self.n_episodes == self._n_before:
            self.abandon()
        else:
            self.leave()
            goes_on = f"{self.resumed_by} goes on with them; " if self.resumed_by else ""
            error.add_note(
                f"{self.n_episodes} episodes of {self.path} are whole and lie in {self._work}: "
                f"{goes_on}EpisodeWriter.resume({str(self.path)!r}).close() puts them in place"
            )

    def _commit(
        self,
        arrays: Mapping[str, "np.ndarray | Clip"],
        n_frames: int,
        spans: TaskSpans,
        numbers: Mapping[str, int],
    ) -> None:
        for key, array in arrays.items():
            self._add(key, array)
        if not self.n_episodes:  # what the first one settles is written down before it counts
            frames = self._schema.frames
            self._options["settled"] = {key: frame.to_dict() for key, frame in frames.items()}
            self._write_options()
        self._store.commit_episode(n_frames, spans, numbers)

    def _add(self, key: str, array: "np.ndarray | Clip") -> None:
        if not isinstance(array, Clip):
            image = is_stored_as_image(self._schema.frames[key])
            self._store.array(key, array.shape[1:], array.dtype, image).append(array)
            return
        fps = self._options["fps"]
        if fps is None:
            raise DataError(f"{self.path}: {key!r} is video: give the writer its fps")
        place = f"{array.path}: {key!r} of episode {self.n_episodes}"
        try:
            apart = "" if array.by_number else PacketTable.of(array.path).out_of_step(array, fps)
            if apart:
                raise DataError(
                    f"{place}: {apart}. Encode it evenly at {fps:g} frames a second (ffmpeg -i OLD "
                    f"-vf fps={fps:g} NEW), or say Clip(..., by_number=True) where frame n belongs "
                    "to row n all the same"
                )
            self._store.add_video(key, array, fps)
        except VideoError as error:
            raise video_error(place, error) from error

    def _begun_schema(self) -> EpisodeSchema:
        """What is demanded of the next episode."""
        schema = EpisodeSchema(self._options["features"])
        if self.n_episodes:
            settled = self._options["settled"].items()
            schema.settle({key: FrameSchema.from_dict(key, entry) for key, entry in settled})
        return schema

    def _write_options(self) -> None:
        text = json.dumps(self._options, indent=2)
        write_whole(self._work / RECORDING, text.encode(), durable=True)
        flush(self._work)

    def _attributes(self) -> dict[str, Any]:
        attributes = dict(self._options.get("attributes") or {})
        for name in ("fps", "environment"):
            if self._options[name] is not None:
                attributes[name] = self._options[name]
        attributes["schema"] = {key: frame.to_dict() for key, frame in self._schema.frames.items()}
        return attributes


def _check_options(fps: Any, features: Any, environment: Any, attributes: Any) -> None:
    """Raise DataError, naming it, for one of another type."""
    if fps is not None and not (_is_number(fps) and 0 < fps < math.inf):
        raise DataError(f"fps is {fps!r}: frames per second are a positive number")
    tables = {"features": features, "environment": environment, "attributes": attributes}
    for name, value in tables.items():
        if value is not None and not isinstance(value, Mapping):
            raise DataError(f"{name} is {value!r}: a table is needed, such as {_EXAMPLES[name]}")
    for key, entry in (features or {}).items():
        if not isinstance(entry, Mapping):
            raise DataError(
                f"features[{key!r}] is {entry!r}: a table is needed, such as {{'units': 'rad'}}"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a caller says of a key, as JSON can keep it."""
    return FrameSchema.from_dict("", entry).to_options()


def _read_options(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        options = json.loads(file.read_text())
        if isinstance(options, dict) and {"fps", "features", "environment", "images"} <= {*options}:
            return options
        raise ValueError("it does not say how the recording was begun")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read ({error}). The episodes lie beside it") from error


def _nothing_to_resume(path: Path) -> DataError:
    if path.exists() and not path.is_dir():
        return DataError(
            f"{path}: nothing can be appended to a zip. Unpack it into a folder and append to "
            "that (it may be zipped again)"
        )
    return DataError(
        f"{path}: there is no recording, nor an unfinished one in {partial_folder(path)}"
    )

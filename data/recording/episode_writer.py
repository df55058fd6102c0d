"""Writing demonstrations: one call per episode, and a dataset that is whole or not there."""

import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.array_appender import check_encoding
from dipole.data.store.publish import publish, zip_folder
from dipole.data.store.schema import EpisodeSchema
from dipole.data.store.video import Clip, VideoError, video_error
from dipole.data.store.writer import StoreWriter


class EpisodeWriter:
    """Writes an episode store: zarr v3, sharded, with checksums, every chunk present.

    path: a folder, or a zip where it ends in ".zip"; fps: frames per second; features: for each
    key, any of kind (state, image, action), shape of a frame, dtype, units and names, to be checked
    and remembered; environment: its id and version; images: how pictures are stored, "zstd" or
    "jxl" (lossless), or "jpeg".

    The dataset appears at `path` when the writer closes without an exception, and nothing does
    otherwise. Raises DataError where `path` exists, and for an episode that does not fit the
    others.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.zarr"
    >>> with EpisodeWriter(path, fps=10) as writer:
    ...     writer.add_episode({"state": np.zeros((30, 5)), "action": np.zeros((30, 2))})
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float | None = None,
        features: Mapping[str, Mapping[str, Any]] | None = None,
        environment: Mapping[str, Any] | None = None,
        images: str = "zstd",
    ) -> None:
        self.path = Path(path).expanduser()
        if fps is not None and not 0 < fps < math.inf:
            raise DataError(f"fps is {fps}: frames per second are a positive number")
        self._schema = EpisodeSchema(features or {})
        self._fps = fps
        self._attributes: dict[str, Any] = {}
        if fps is not None:
            self._attributes["fps"] = float(fps)
        if environment is not None:
            self._attributes["environment"] = dict(environment)
        self._ends: list[int] = []
        self._tasks: list[str] = []
        check_encoding(images)
        refuse_existing(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._beside = Path(
            tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".partial")
        )
        self._closed = False
        self._builder = StoreWriter(self._beside / "store", images)

    @property
    def n_episodes(self) -> int:
        return len(self._ends)

    def add_episode(self, episode: Mapping[str, Any], task: str = "") -> None:
        """One episode: {key: [frames, *shape]}, the same keys and shapes each time, with `action`.

        A camera's frames may be a `Clip` of a video file, which is kept as video. task: what was
        to be done, in words. float64 is stored as float32 unless `features` says otherwise. Raises
        DataError, naming key and frame, for arrays that do not fit or hold NaN; the episodes
        before it stay.
        """
        if self._closed:
            raise DataError(f"{self.path}: the writer is closed; open another for more episodes")
        arrays = self._schema.fit(f"{self.path}: episode {self.n_episodes}", episode)
        try:
            for key, array in arrays.items():
                self._add(key, array)
        except BaseException:  # a full disk: the arrays no longer agree, so there is no dataset
            self.abandon()
            raise
        self._ends.append((self._ends[-1] if self._ends else 0) + len(arrays["action"]))
        self._tasks.append(task)

    def _add(self, key: str, array: "np.ndarray | Clip") -> None:
        if not isinstance(array, Clip):
            self._builder.array(key, array.shape[1:], array.dtype).append(array)
            return
        if self._fps is None:
            raise DataError(f"{self.path}: {key!r} is video: give the writer its fps")
        try:
            self._builder.add_video(key, array, self._fps)
        except VideoError as error:
            place = f"{array.path}: {key!r} of episode {self.n_episodes}"
            raise video_error(place, error) from error

    def close(self) -> None:
        """Finish the dataset and put it in its place; raises DataError without any episode."""
        if self._closed:
            return
        try:
            if not self._ends:
                raise DataError(f"{self.path}: no episodes were added, so nothing is written")
            self._finish()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End without a dataset: removes what was written so far."""
        self._closed = True
        shutil.rmtree(self._beside, ignore_errors=True)

    def __enter__(self) -> "EpisodeWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _finish(self) -> None:
        schema = {key: frame.to_dict() for key, frame in self._schema.frames.items()}
        self._builder.finish(self._ends, {**self._attributes, "schema": schema}, self._tasks)
        place_store(self._builder.folder, self.path)


def place_store(folder: Path, path: Path) -> None:
    """Put a finished store in its place, zipped where the name says so; never over something."""
    written = folder
    if path.suffix == ".zip":
        written = folder.with_name("store.zip")
        zip_folder(folder, written)
    refuse_existing(path)
    publish(written, path)


def refuse_existing(path: Path) -> None:
    """Raise DataError where something is at the path."""
    if path.exists() or path.is_symlink():
        raise DataError(
            f"{path}: exists already, and datasets are never overwritten. "
            "Choose another path or remove it"
        )

"""Writing demonstrations: one call per episode, and a dataset that is whole or not there."""

import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dipole.data.episode_schema import EpisodeSchema
from dipole.data.errors import DataError
from dipole.data.formats.pack import publish, zip_folder
from dipole.data.written_array import WrittenArray

FORMAT = 1  # of the attributes; raised when a reader must tell versions apart


class EpisodeWriter:
    """Writes an episode store: zarr v3, sharded, with checksums, every chunk present.

    path: a folder, or a zip where it ends in ".zip"; fps: frames per second; features: for each
    key, any of kind (state, image, action), shape of a frame, dtype and units, to be checked and
    remembered; environment: its id and version.

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
    ) -> None:
        self.path = Path(path).expanduser()
        if fps is not None and not 0 < fps < math.inf:
            raise DataError(f"fps is {fps}: frames per second are a positive number")
        self._schema = EpisodeSchema(features or {})
        self._attributes: dict[str, Any] = {"dipole_format": FORMAT}
        if fps is not None:
            self._attributes["fps"] = float(fps)
        if environment is not None:
            self._attributes["environment"] = dict(environment)
        self._arrays: dict[str, WrittenArray] = {}
        self._ends: list[int] = []
        self._refuse_existing()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._beside = Path(
            tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".partial")
        )
        self._closed = False
        self._group = _create_group(self._beside / "store")

    @property
    def n_episodes(self) -> int:
        return len(self._ends)

    def add_episode(self, episode: Mapping[str, Any]) -> None:
        """One episode: {key: [frames, *shape]}, the same keys and shapes each time, with `action`.

        float64 is stored as float32 unless `features` says otherwise. Raises DataError, naming key
        and frame, for arrays that do not fit or hold NaN; the episodes before it stay.
        """
        if self._closed:
            raise DataError(f"{self.path}: the writer is closed; open another for more episodes")
        arrays = self._schema.fit(f"{self.path}: episode {self.n_episodes}", episode)
        try:
            for key, array in arrays.items():
                if key not in self._arrays:
                    name = f"data/{key}"
                    shape, dtype = array.shape[1:], array.dtype
                    self._arrays[key] = WrittenArray(self._group, name, shape, dtype)
                self._arrays[key].append(array)
        except BaseException:  # a full disk: the arrays no longer agree, so there is no dataset
            self.abandon()
            raise
        self._ends.append(self._arrays["action"].n_frames)

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
        for array in self._arrays.values():
            array.flush()
        ends = WrittenArray(self._group, "meta/episode_ends", (), np.dtype(np.int64))
        ends.append(np.array(self._ends, np.int64))
        ends.flush()
        schema = {key: frame.to_dict() for key, frame in self._schema.frames.items()}
        self._group.update_attributes({**self._attributes, "schema": schema})
        written = self._beside / "store"
        if self.path.suffix == ".zip":
            zip_folder(written, self._beside / "store.zip")
            written = self._beside / "store.zip"
        self._refuse_existing()
        publish(written, self.path)

    def _refuse_existing(self) -> None:
        if self.path.exists() or self.path.is_symlink():
            raise DataError(
                f"{self.path}: exists already, and datasets are never overwritten. "
                "Choose another path or remove it"
            )


def _create_group(path: Path) -> Any:
    import zarr

    return zarr.create_group(path, zarr_format=3)

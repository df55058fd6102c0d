"""An episode store as a source: Diffusion Policy's zarr, UMI's, or our own, to be stored anew."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.zip_members import ZIP_ERRORS, check_member
from dipole.data.sources.source import EpisodeRef, SourceEpisode, SourceInfo, source_attributes
from dipole.data.store.metadata import OWN
from dipole.data.store.objects.url import DatasetPath, ObjectUrl
from dipole.data.store.reading import nested_arrays
from dipole.data.store.schema import FrameSchema, looks_channels_first
from dipole.data.store.store import EpisodeStore
from dipole.data.store.video import Clip
from dipole.data.store.video_array import VideoArray
from dipole.data.store.zarr.tree import FileRange, Tree

MOST_EXPANSION = 4  # of a video, which is compressed already, when it is taken out of a zip


class StoreSource:
    """Reads the store at `path`; see `Source`."""

    def __init__(self, path: DatasetPath) -> None:
        self._store = store = EpisodeStore.open(path)
        lengths = np.diff(store.episode_ends, prepend=0).tolist()
        self._refs = [
            EpisodeRef(number, length, numbers=numbers)
            for number, (length, numbers) in enumerate(
                zip(lengths, store.numbers_by_episode(), strict=True)
            )
        ]
        self._starts = store.episode_starts.tolist()
        self._extracted: ExtractedFiles | None = None
        if isinstance(path, ObjectUrl):
            self._extracted = DownloadedFiles(path, store.files)
        elif path.is_file():
            self._extracted = ExtractedFiles(path)
        ours = "dipole_format" in store.attributes
        frames = {key: FrameSchema.from_dict(key, store.schema(key)) for key in store.arrays}
        said = {name: value for name, value in store.attributes.items() if name not in OWN}
        self.info = SourceInfo(
            path,
            "episode store" if ours else "zarr of Diffusion Policy",
            frames,
            store.fps,
            store.environment,
            left_out={f"data/{place}": why for place, why in nested_arrays(store.files).items()},
            unreadable=store.unreadable,
            attributes=said if ours else source_attributes(said),
            # Whoever wrote them with us had to say that they are numbers.
            typed=frozenset(
                k for k, f in frames.items() if ours and looks_channels_first(f.shape or ())
            ),
        )

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _Episode(self._store, self._refs[ref.id], self._starts[ref.id], self._extracted)

    def close(self) -> None:
        self._store.close()
        if self._extracted is not None:
            self._extracted.close()


class _Episode:
    def __init__(
        self, store: EpisodeStore, ref: EpisodeRef, start: int, extracted: "ExtractedFiles | None"
    ) -> None:
        self._store, self.ref, self._start, self._extracted = store, ref, start, extracted
        self.n_frames = ref.n_frames or 0
        self.tasks = store.task_spans(ref.id)

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        return self._store[key].read(self._start + start, self._start + stop)

    def clip(self, key: str) -> Clip | None:
        array = self._store[key]
        if not isinstance(array, VideoArray):
            return None
        name = array.file(self.ref.id)
        extracted = self._extracted
        file = self._store.path / name if extracted is None else extracted.file(key, name)
        return Clip(file, array.first_frame(self.ref.id), self.n_frames, array.shape[1:])


class ExtractedFiles:
    """Files of a zip in a temporary folder, the last one of each key: to be cut from."""

    def __init__(self, archive: DatasetPath) -> None:
        self._archive = archive
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, tuple[str, Path]] = {}  # key → name in the zip, and where it is now

    def file(self, key: str, name: str) -> Path:
        """Where the file `name` is; raises DataError where it is damaged."""
        if key in self._files and self._files[key][0] == name:
            return self._files[key][1]
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="dipole-")
        if key in self._files:
            self._files.pop(key)[1].unlink()
        target = Path(self._folder.name) / name.replace("/", "_")
        try:
            with self._opened(name) as member, open(target, "wb") as written:
                shutil.copyfileobj(member, written, 2**20)
        except (*ZIP_ERRORS, OSError, KeyError) as error:
            raise DataError(
                f"{self._archive}: {name} cannot be taken out of it ({error}). Copy the "
                "dataset again, or see whether the disk is full"
            ) from error
        self._files[key] = (name, target)
        return target

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(str(self._archive)) as archive:
            entry = archive.getinfo(name)
            check_member(entry)
            if entry.file_size > MOST_EXPANSION * (entry.compress_size + 2**10):
                raise zipfile.BadZipFile(f"{entry.file_size:,} bytes from few, a bomb")
            with archive.open(entry) as member:
                yield member

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
            self._files.clear()


class DownloadedFiles(ExtractedFiles):
    """The same of a dataset in object storage. files: Its own."""

    def __init__(self, url: ObjectUrl, files: Tree) -> None:
        super().__init__(url)
        self._tree = files

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        size = self._tree.size(name)
        if size is None:
            raise KeyError(name)
        self._tree.prefetch([FileRange(name, 0, size)])
        with self._tree.open(name) as file:
            yield file

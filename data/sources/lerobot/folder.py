"""The files of a LeRobot dataset, by their names within its folder; no other file is opened."""

import os
import re
import string
from collections.abc import Mapping
from pathlib import Path

from dipole.data.core.dataset_root import DatasetRoot
from dipole.data.core.errors import DataError

_FIELDS = {
    "episode_chunk", "episode_index", "video_key", "chunk_index", "file_index", "total_episodes"
}  # fmt: skip


class DatasetFolder:
    """The folder of a dataset. path: as it was given."""

    def __init__(self, path: Path) -> None:
        self.path, self._root = path, DatasetRoot(path)

    def file(self, name: str) -> Path:
        """The path of a file, which may not exist.

        Raises DataError where it lies outside the dataset, or is a link to nothing.
        """
        path, real = self.path / name, self._root.check(name)
        if path.is_symlink() and not real.exists():
            raise DataError(f"{path}: {NOT_DOWNLOADED}")
        return path

    def has(self, name: str) -> bool:
        """Whether the file exists; fast, for many of them."""
        return os.path.isfile(os.path.join(self.path, name))

    def is_dangling(self, name: str) -> bool:
        """Whether the file is a link to nothing."""
        return not self.has(name) and os.path.islink(os.path.join(self.path, name))

    def template(self, text: object) -> "PathTemplate":
        """A template of meta/info.json; raises DataError for anything but names and fields."""
        where = f"{self.path}: path template {text!r} in meta/info.json"
        if not isinstance(text, str):
            raise DataError(f"{where} is refused: it is no text. Copy the dataset again")
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise DataError(f"{where} is refused ({error})") from error
        for _, name, spec, conversion in parts:
            plain = name is None or (name in _FIELDS and re.fullmatch(r"(0?\d{1,2}d)?", spec or ""))
            if not plain or conversion:
                raise DataError(f"{where} is refused: it may hold {', '.join(sorted(_FIELDS))}")
        if text.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", text):
            raise DataError(f"{where} lies outside the dataset")
        return PathTemplate(where, text)


NOT_DOWNLOADED = (
    "a link to a file that is not there: it was not downloaded. Download the dataset whole, e.g. "
    "with `hf download --repo-type dataset USER/NAME`"
)


class PathTemplate:
    """Names of files, such as data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet."""

    def __init__(self, where: str, text: str) -> None:
        self._where, self._text = where, text

    def fill(self, values: Mapping[str, int | str]) -> str:
        """The name with these values; raises DataError for a field that has none."""
        try:
            return self._text.format(**values)
        except (KeyError, ValueError) as error:
            raise DataError(f"{self._where}: no value for {error}") from error

"""The files of a dataset, in a folder or in a zip: what is there, how large, a range of bytes.

zarr decodes chunks; what it does not do is say that one is missing (it answers with the fill
value). So we look ourselves, through this small read-only view.
"""

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from dipole.data.core.dataset_root import DatasetRoot
from dipole.data.core.errors import DataError
from dipole.data.core.file_kinds import convert_it, other_format
from dipole.data.core.zip_members import ZIP_ERRORS, check_member
from dipole.data.store.objects.url import DatasetPath, ObjectUrl

LARGEST_METADATA = 16 * 2**20  # bytes of one JSON file; real ones have a few hundred
_HEADER = 30  # bytes before the name of a zip's entry


class FileRange(NamedTuple):
    """Bytes of a file, from `offset` on."""

    name: str
    offset: int
    length: int


class Tree(Protocol):
    """A read-only tree of files; names use `/` and are relative to the dataset.

    remote: whether reading takes so long that it is worth saying beforehand what will be read.
    keeps_all: whether what was read once is at hand from then on.
    """

    path: Any  # a Path or an ObjectUrl: of both, the text and the name
    remote: bool
    keeps_all: bool

    def size(self, name: str) -> int | None:
        """Bytes of the file, or None where there is none."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer at the end of the file."""

    def prefetch(self, ranges: Iterable[FileRange]) -> None:
        """Have these bytes fetched in the background; where `remote` is false, nothing."""

    def forget(self, name: str, offset: int, length: int) -> None:
        """Read these bytes anew, should they be asked for: they turned out to be damaged."""

    def folders(self, name: str) -> list[str]:
        """Names of the folders inside a folder, sorted; "" is the dataset itself."""

    def open(self, name: str) -> BinaryIO:
        """A file to seek in, for libraries that read by themselves."""

    def close(self) -> None:
        """Close its files."""


class FolderTree:
    """A dataset that is a folder. Raises DataError for a file that a link puts outside of it."""

    remote = False
    keeps_all = True

    def __init__(self, path: Path) -> None:
        self.path: Any = path
        self._root = DatasetRoot(path)
        self._inside: set[str] = set()  # folders that were found to lie inside

    def size(self, name: str) -> int | None:
        try:
            found = os.stat(self._place(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, name: str, offset: int, length: int) -> bytes:
        with open(self._place(name), "rb") as file:
            file.seek(offset)
            return file.read(length)

    def prefetch(self, ranges: Iterable[FileRange]) -> None:
        pass

    def forget(self, name: str, offset: int, length: int) -> None:
        pass

    def folders(self, name: str) -> list[str]:
        folder = self._place(name)
        if not os.path.isdir(folder):
            return []
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    def open(self, name: str) -> BinaryIO:
        return open(self._place(name), "rb")

    def _place(self, name: str) -> str:
        """The path of a file; folders are looked at once, because chunks are read often."""
        folder = name.rpartition("/")[0]
        if folder not in self._inside:
            self._root.check(folder)
            self._inside.add(folder)
        path = os.path.join(self.path, name)
        if os.path.islink(path):
            self._root.check(name)
        return path

    def close(self) -> None:
        pass


class ZipTree:
    """A dataset that is a zip file. Raises DataError where the zip is truncated or damaged."""

    remote = False
    keeps_all = True

    def __init__(self, path: Any) -> None:
        self.path: Any = path
        try:
            self._raw = self._open_file()
            self._zip = zipfile.ZipFile(self._raw)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"{path}: not a readable zip file ({error}). It is truncated, damaged or something "
                "else: copy or download it again"
            ) from error
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        self._starts: dict[str, int] = {}

    def size(self, name: str) -> int | None:
        entry = self._entries.get(name)
        return None if entry is None else entry.file_size

    def read(self, name: str, offset: int, length: int) -> bytes:
        entry = self._entries[name]
        whole = offset == 0 and length >= entry.file_size
        check_member(entry)
        if whole or entry.compress_type != zipfile.ZIP_STORED:
            return self._decompressed(entry, offset, length)
        # zipfile would read, and check, everything before the offset.
        length = max(min(length, entry.file_size - offset), 0)
        return self._pread(length, self._start(entry) + offset)

    def _decompressed(self, entry: zipfile.ZipInfo, offset: int, length: int) -> bytes:
        """Bytes through zipfile, which checks whole files against their CRC-32.

        At most `length` bytes are decompressed at once, whatever the entry claims. Raises OSError.
        """
        try:
            with self._zip.open(entry) as file:
                file.seek(offset)
                return file.read(min(length, max(entry.file_size - offset, 0)))
        except ZIP_ERRORS as error:
            raise OSError(str(error)) from error

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(member(self, name)))

    def prefetch(self, ranges: Iterable[FileRange]) -> None:
        pass

    def forget(self, name: str, offset: int, length: int) -> None:
        pass

    def folders(self, name: str) -> list[str]:
        prefix = f"{name}/" if name else ""
        inside = (entry[len(prefix) :] for entry in self._entries if entry.startswith(prefix))
        return sorted({entry.split("/", 1)[0] for entry in inside if "/" in entry})

    def close(self) -> None:
        self._zip.close()
        self._raw.close()

    def _open_file(self) -> BinaryIO:
        return open(self.path, "rb")

    def _pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._raw.fileno(), length, offset)

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Where an entry's bytes begin: behind its own header, whose length only it says."""
        if entry.filename not in self._starts:
            header = self._pread(_HEADER, entry.header_offset)
            if len(header) < _HEADER or not header.startswith(b"PK\x03\x04"):
                raise zipfile.BadZipFile(f"no local header for {entry.filename}")
            name, extra = struct.unpack("<HH", header[26:30])
            self._starts[entry.filename] = entry.header_offset + _HEADER + name + extra
        return self._starts[entry.filename]


class Seekable(io.RawIOBase):
    """A file of `size` bytes, to seek in. read: (offset, length) -> bytes."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._read(self._at, len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def member(files: Tree, name: str) -> Seekable:
    """One file of a tree."""
    return Seekable(partial(files.read, name), files.size(name) or 0)


def open_tree(path: DatasetPath) -> Tree:
    """The files at `path`; raises DataError where there is neither a folder nor a zip."""
    if isinstance(path, ObjectUrl):
        from dipole.data.store.objects.tree import open_object_tree

        return open_object_tree(path)
    if path.is_dir():
        return FolderTree(path)
    if path.is_file():
        format = other_format(path)
        if format:
            raise DataError(convert_it(path, format))
        return ZipTree(path)
    raise DataError(f"{path}: there is no dataset here; check the path")


def read_metadata(files: Tree, name: str) -> bytes | None:
    """A whole JSON file, or None where there is none; raises DataError past any sane size."""
    size = files.size(name)
    if size is None:
        return None
    if size > LARGEST_METADATA:
        raise DataError(f"{files.path}: {name} has {size:,} bytes, too many for metadata")
    try:
        return files.read(name, 0, size)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"{files.path}: {name} cannot be read ({error}). Copy or download the dataset again"
        ) from error

"""A recording's file while it is written: it ends with a whole record, whatever the disk does."""

import contextlib
import os
from io import RawIOBase
from pathlib import Path

from dipole.data.core.errors import DataError
from dipole.deploy.recording.file_format import MAGIC

SMALL = 1 << 16  # bytes; shorter records are written in one piece


class AppendedFile:
    """A file that ends with a whole record, or is brought back to that before the next one.

    file: An empty recording, see open_new.
    """

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._end = len(MAGIC)
        self._torn = False

    def append(self, pieces: list[memoryview]) -> None:
        """Write all of the pieces; raises OSError where the disk does not take them."""
        if self._torn:
            self._file.seek(self._end)
            self._file.truncate()
        self._torn = True
        size = sum(piece.nbytes for piece in pieces)
        if size < SMALL:
            pieces = [memoryview(b"".join(pieces))]
        for piece in pieces:
            _write_all(self._file, piece)
        self._end, self._torn = self._end + size, False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._torn:
                self._file.seek(self._end)
                self._file.truncate()
            os.fsync(self._file.fileno())  # a robot's computer is often switched off next
        with contextlib.suppress(OSError):
            self._file.close()


def open_new(path: Path) -> RawIOBase:
    """A new recording's file; raises FileExistsError, or DataError where it cannot be written."""
    try:
        file = path.open("xb", buffering=0)
    except FileExistsError:
        raise
    except OSError as error:
        raise DataError(f"{path}: no recording can be written ({error})") from error
    try:
        _write_all(file, memoryview(MAGIC))
    except OSError as error:
        file.close()
        path.unlink(missing_ok=True)
        raise DataError(f"{path}: no recording can be written ({error})") from error
    return file


def _write_all(file: RawIOBase, data: memoryview) -> None:
    while data:
        written = file.write(data)
        if not written:
            raise OSError("nothing more can be written")
        data = data[written:]

"""Disks that are slow or full, for the flight recorder."""

import errno
import io
import threading

from dipole.deploy.recording.file_format import MAGIC


class Disk(io.RawIOBase):
    """A file at `path`; before(n) is called ahead of write number n, counted from 0.

    Where it raises OSError, half of what was to be written is written all the same.
    """

    def __init__(self, path, before=lambda n: None):
        self._file = path.open("xb", buffering=0)
        self._before, self._writes = before, 0
        self._file.write(MAGIC)

    def write(self, data):
        number, self._writes = self._writes, self._writes + 1
        try:
            self._before(number)
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        return self._file.write(data)

    def seek(self, place, whence=0):
        return self._file.seek(place, whence)

    def truncate(self, size=None):
        return self._file.truncate(size)

    def fileno(self):
        return self._file.fileno()

    def close(self):
        self._file.close()
        super().close()


def full(_number=0):
    raise OSError(errno.ENOSPC, "No space left on device")


class Blocked:
    """Writes wait from number `first` on, until `answer` is set."""

    def __init__(self, first):
        self.answer, self.reached = threading.Event(), threading.Event()
        self._first = first

    def __call__(self, number):
        if number >= self._first:
            self.reached.set()
            self.answer.wait(60)

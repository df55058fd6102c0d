"""Blocks of objects on the local disk, the most recently used ones, up to a number of bytes.

One file a block, named by a hash of the object's address, tag and block number; it ends with a
crc32c of its content. Processes share the folder: files appear whole, and one that vanishes or is
damaged is fetched again.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c

from dipole.data.core.errors import DataError
from dipole.data.core.memory import format_bytes, read_bytes

FOLDER, SIZE = "DIPOLE_CACHE_DIR", "DIPOLE_CACHE_SIZE"  # environment variables
LARGEST_DEFAULT = 64 * 2**30  # bytes; half of the disk's free space where that is less
SMALLEST = 64 * 2**20
KEPT = 0.9  # of the limit, after removing
_CHECKSUM = 4
_OLD = 60.0  # seconds after which a use is noted again in the file's time


class BlockCache:
    """folder: Where the files are. limit: Bytes of all files together, of all processes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._sound: set[str] = set()  # files whose checksum this process has seen
        self._written = 0
        self._used: int | None = None
        self._lock = threading.Lock()

    @classmethod
    def of_environment(cls) -> "BlockCache":
        """In $DIPOLE_CACHE_DIR, by default $XDG_CACHE_HOME/dipole/objects, in its folder `blocks`;
        up to $DIPOLE_CACHE_SIZE.

        Raises DataError where the folder cannot be written, ConfigError for no amount of bytes.
        """
        cache = cls(cache_folder("blocks"), 0)
        cache.limit = cache_limit(cache.folder, cache.used)
        return cache

    @staticmethod
    def name(url: str, tag: str, size: int, block: int) -> str:
        """The file of a block, relative to the folder."""
        digest = hashlib.sha256(f"{url}\n{tag}\n{size}".encode()).hexdigest()[:24]
        return f"{digest[:2]}/{digest[2:]}/{block}"

    def has(self, name: str) -> bool:
        """Whether a block is likely there."""
        return name in self._sound or (self.folder / name).is_file()

    def read(self, name: str, length: int, start: int, stop: int) -> bytes | None:
        """Bytes [start, stop) of a block of `length` bytes; None where it is absent or damaged."""
        place = os.path.join(self.folder, name)
        try:
            handle = os.open(place, os.O_RDONLY)
        except OSError:
            self._sound.discard(name)
            return None
        try:
            if name in self._sound:
                content = os.pread(handle, stop - start, start)
                if len(content) == stop - start:
                    return content
            whole = os.pread(handle, length + _CHECKSUM + 1, 0)
            seen = time.time() - os.fstat(handle).st_mtime
        finally:
            os.close(handle)
        content, checksum = whole[:length], whole[length:]
        if len(content) < length or checksum != _checksum(content):
            self._sound.discard(name)
            with contextlib.suppress(OSError):
                os.unlink(place)
            return None
        self._sound.add(name)
        if seen > _OLD:
            with contextlib.suppress(OSError):
                os.utime(place)
        return content[start:stop]

    def put(self, name: str, content: bytes) -> None:
        """Keep a block, where the disk takes it: a cache that cannot be written is none."""
        place = self.folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=place.parent, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.write(_checksum(content))
                os.replace(beside, place)
            except BaseException:
                Path(beside).unlink(missing_ok=True)
                raise
        except OSError:
            return
        self._sound.add(name)
        with self._lock:
            self._written += len(content) + _CHECKSUM
            if self._used is None or self._written > self.limit // 20:
                self._used, self._written = self.used(), 0
            if self._used + self._written > self.limit:
                self._remove_oldest()

    def remove(self, name: str) -> None:
        """Forget a block, so that it is fetched again."""
        self._sound.discard(name)
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()

    def used(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._files())

    def _remove_oldest(self) -> None:
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        for _, size, place in files:
            if used <= self.limit * KEPT:
                break
            with contextlib.suppress(OSError):
                os.unlink(place)
            self._sound.discard(os.path.relpath(place, self.folder))
            used -= size
        self._used, self._written = used, 0

    def _files(self) -> "list[tuple[float, int, str]]":
        """When each file was used last, its size, and where it is."""
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                place = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    state = os.stat(place)
                    found.append((state.st_mtime, state.st_size, place))
        return found


def cache_folder(name: str) -> Path:
    """A folder of the cache that the environment names, made.

    Raises DataError where it cannot be written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get(FOLDER) or f"{base}/dipole/objects").expanduser() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache of object storage cannot be written ({error}). Name another "
            f"folder by {FOLDER}"
        ) from error
    return folder


def cache_limit(folder: Path, used: Callable[[], int]) -> int:
    """Bytes that a folder of the cache may have: $DIPOLE_CACHE_SIZE, or half of what is free.

    used: Counts what it has. Raises DataError for too few, ConfigError for no amount of bytes.
    """
    given = os.environ.get(SIZE)
    if given is None:
        room = shutil.disk_usage(folder).free + used()
        return max(min(LARGEST_DEFAULT, room // 2), SMALLEST)
    limit = read_bytes(given)
    if limit < SMALLEST:
        raise DataError(f"{SIZE}={given}: at least {format_bytes(SMALLEST)} are needed")
    return limit


def _checksum(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(_CHECKSUM, "little")

"""One process at a time: a lock that ends with the process that holds it, on every system."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dipole.data.core.errors import DataError


@contextmanager
def exclusive(file: Path, what: str) -> Iterator[None]:
    """Hold the lock `file` meanwhile; the file stays, because deleting it would race.

    what: what is locked, for the error. Raises DataError where another process holds it.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"{what}: another process is writing it already") from error
    except OSError as error:
        raise DataError(f"{what}: nothing can be written there ({error})") from error
    try:
        if not file.exists():  # between opening and locking it, whoever held it removed it
            raise DataError(f"{what}: another process was writing it just now; try again")
        yield
    finally:
        lock.release()

"""Commits of an unfinished store: a file to which records are added, each of them whole or not.

A record is a JSON object and bytes behind it, with a checksum. Reading ends at the first record
that is cut short or damaged, which is where a crash came.
"""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dipole.data.store.publish import flush, write_all, write_whole

_HEAD = struct.Struct("<4sIII")  # mark, bytes of JSON, bytes behind it, crc32c of both
_MARK = b"dpl1"
_MOST_BYTES = 2**31


class Journal:
    """Records in a file. durable: whether each is on the disk before `append` returns."""

    def __init__(self, file: Path, durable: bool) -> None:
        self._path, self._durable = file, durable
        self._file: Any = None
        self.n_bytes = file.stat().st_size if file.is_file() else 0
        self.damaged = False  # whether `records` met one that is there whole, and is not sound

    def records(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Every whole record, the oldest first; nothing where there is no file."""
        if not self._path.is_file():
            return
        with open(self._path, "rb") as file:
            try:
                while record := _read(file):
                    yield record
            except ValueError:
                self.damaged = True

    def append(self, record: dict[str, Any], content: bytes = b"") -> None:
        """Add a record; the file begins with what `start` wrote."""
        if self._file is None:
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115  until `close`
        raw = _packed(record, content)
        try:
            write_all(self._file, raw)
            if self._durable:
                os.fsync(self._file.fileno())
        except BaseException:  # a full disk: what comes next must not stand behind half a record
            self.close()
            os.truncate(self._path, self.n_bytes)
            raise
        self.n_bytes += len(raw)

    def start(self, record: dict[str, Any], content: bytes = b"") -> None:
        """Begin anew with one record, in the place of all before it."""
        self.close()
        raw = _packed(record, content)
        write_whole(self._path, raw, self._durable)
        self.n_bytes = len(raw)
        if self._durable:
            flush(self._path.parent)

    def remove(self) -> None:
        """Remove the file: there is nothing to go on with any more."""
        self.close()
        self._path.unlink(missing_ok=True)
        if self._durable:
            flush(self._path.parent)

    def close(self) -> None:
        """Close the file; what was written stays."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _packed(record: dict[str, Any], content: bytes) -> bytes:
    import google_crc32c

    text = json.dumps(record, separators=(",", ":")).encode()
    return _HEAD.pack(_MARK, len(text), len(content), google_crc32c.value(text + content)) + (
        text + content
    )


def _read(file: Any) -> tuple[dict[str, Any], bytes] | None:
    """The next record, None where the file ends; raises ValueError for one that is damaged."""
    import google_crc32c

    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, n_text, n_content, checksum = _HEAD.unpack(head)
    if mark != _MARK or n_text + n_content > _MOST_BYTES:
        raise ValueError("not a record")
    raw = file.read(n_text + n_content)
    if len(raw) < n_text + n_content:
        return None
    record = json.loads(raw[:n_text]) if google_crc32c.value(raw) == checksum else None
    if not isinstance(record, dict):
        raise ValueError("a damaged record")
    return record, raw[n_text:]

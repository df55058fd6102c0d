"""Whole objects to files on the disk, and files that are compared with objects."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, BinaryIO

from dipole.data.store.objects.client import ObjectClient, ObjectInfo, size_of

PART = 16 * 2**20  # bytes of one request
DOWNLOADS = 8  # at once


def download(client: ObjectClient, key: str, info: ObjectInfo, target: Path) -> None:
    """Write an object, of that very content, into a file of its size.

    Raises StorageError where it cannot be had, or has been replaced.
    """
    with target.open("wb") as file:

        def fetch(start: int) -> None:
            content = client.get(key, start, min(PART, info.size - start), info.tag)
            os.pwrite(file.fileno(), content, start)

        threads = ThreadPoolExecutor(DOWNLOADS)
        try:
            parts = [threads.submit(fetch, start) for start in range(0, info.size, PART)]
            for part in as_completed(parts):
                part.result()
        finally:
            threads.shutdown(cancel_futures=True)


def is_same(info: ObjectInfo, content: bytes | Path | BinaryIO) -> bool:
    """Whether an object surely is this content: of one that was sent whole, S3's tag is the MD5."""
    tag = info.tag.strip('"')
    if info.size != size_of(content) or len(tag) != 32:
        return False
    return tag == _md5(content)


def _md5(content: bytes | Path | BinaryIO) -> str:
    if isinstance(content, bytes):
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    if isinstance(content, Path):
        with content.open("rb") as file:
            return _md5(file)
    content.seek(0)
    opened: Any = content
    return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

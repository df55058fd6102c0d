"""Bytes of objects, in blocks that are fetched side by side and kept on the local disk.

object    |--------|--------|--------|--------|----|     blocks of 1 MiB
wanted       ##          #      ##                       by reads, and by those that will come
request   |=================|========|                   adjacent blocks in one, up to 4 MiB
"""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from dipole.data.store.objects.cache import BlockCache
from dipole.data.store.objects.client import ObjectClient, ObjectInfo
from dipole.data.store.objects.threads import RequestThreads

BLOCK_BYTES = 2**20
REQUEST_BLOCKS = 4  # of one request at most
REQUESTS = 32  # at once

_Found = dict[int, bytes]


class ObjectRange(NamedTuple):
    """Bytes [start, stop) of an object."""

    key: str
    info: ObjectInfo
    start: int
    stop: int


class BlockReader:
    """Reads objects of one bucket through a cache. May be used by several threads."""

    def __init__(self, client: ObjectClient, cache: BlockCache) -> None:
        self._client, self._cache = client, cache
        self._threads = RequestThreads(REQUESTS, f"reading {client.url.root}")
        self._pending: dict[tuple[str, int], Future[_Found]] = {}
        self._lock = threading.Lock()

    @property
    def cache_limit(self) -> int:
        """Bytes that the cache may have."""
        return self._cache.limit

    def read(self, wanted: ObjectRange) -> bytes:
        """The bytes; raises StorageError where they cannot be had."""
        start, stop = wanted.start, min(wanted.stop, wanted.info.size)
        if stop <= start:
            return b""
        blocks = range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
        waiting = {} if len(blocks) == 1 else self._request(wanted.key, wanted.info, blocks)
        parts = []
        for block in blocks:
            at = block * BLOCK_BYTES
            first, last = max(start - at, 0), min(stop - at, BLOCK_BYTES)
            content = None
            if block not in waiting:
                content = self._cached(wanted, block, first, last)
            if content is None:
                content = self._fetched(wanted, block, waiting)[first:last]
            parts.append(content)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def prefetch(self, wanted: Iterable[ObjectRange]) -> None:
        """Have the bytes fetched in the background, in this order."""
        by_object: dict[str, tuple[ObjectInfo, dict[int, None]]] = {}
        for one in wanted:
            stop = min(one.stop, one.info.size)
            blocks = by_object.setdefault(one.key, (one.info, {}))[1]
            span = range(one.start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
            blocks.update(dict.fromkeys(span))
        for key, (info, chosen) in by_object.items():
            self._request(key, info, sorted(chosen))

    def forget(self, wanted: ObjectRange) -> None:
        """Drop what the cache has of these bytes: they turned out to be damaged."""
        for block in range(wanted.start // BLOCK_BYTES, -(-wanted.stop // BLOCK_BYTES)):
            self._cache.remove(self._name(wanted.key, wanted.info, block))

    def close(self) -> None:
        """Drop the requests that wait."""
        self._threads.close()

    def _cached(self, wanted: ObjectRange, block: int, first: int, last: int) -> bytes | None:
        length = min(BLOCK_BYTES, wanted.info.size - block * BLOCK_BYTES)
        name = self._name(wanted.key, wanted.info, block)
        return self._cache.read(name, length, first, last)

    def _fetched(
        self, wanted: ObjectRange, block: int, waiting: dict[int, "Future[_Found]"]
    ) -> bytes:
        if block not in waiting:
            waiting |= self._request(wanted.key, wanted.info, [block], cached=False)
        return waiting[block].result()[block]

    def _request(
        self, key: str, info: ObjectInfo, blocks: Iterable[int], cached: bool = True
    ) -> dict[int, "Future[_Found]"]:
        """What is under way of these blocks, after requests for those that are not in the cache.

        cached: Whether the cache is asked; otherwise it is known not to have them.
        """
        waiting, missing = {}, []
        with self._lock:
            for block in blocks:
                pending = self._pending.get((key, block))
                if pending is not None:
                    waiting[block] = pending
                elif not (cached and self._cache.has(self._name(key, info, block))):
                    missing.append(block)
            for run in _runs(missing):
                future = self._threads.submit(partial(self._fetch, key, info, run))
                for block in run:
                    waiting[block] = self._pending[key, block] = future
        return waiting

    def _fetch(self, key: str, info: ObjectInfo, run: range) -> _Found:
        start, stop = run.start * BLOCK_BYTES, min(run.stop * BLOCK_BYTES, info.size)
        try:
            content = self._client.get(key, start, stop - start, info.tag)
            found = {}
            for block in run:
                at = (block - run.start) * BLOCK_BYTES
                found[block] = content[at : at + BLOCK_BYTES]
                self._cache.put(self._name(key, info, block), found[block])
            return found
        finally:
            with self._lock:
                for block in run:
                    self._pending.pop((key, block), None)

    def _name(self, key: str, info: ObjectInfo, block: int) -> str:
        return self._cache.name(f"{self._client.url.root}/{key}", info.version, info.size, block)


def _runs(blocks: list[int]) -> Iterator[range]:
    """Blocks in increasing order as ranges of adjacent ones, none longer than a request.

    >>> [*_runs([1, 2, 3, 4, 5, 8])]
    [range(1, 5), range(5, 6), range(8, 9)]
    """
    run = range(0)
    for block in blocks:
        if run and block == run.stop and len(run) < REQUEST_BLOCKS:
            run = range(run.start, block + 1)
            continue
        if run:
            yield run
        run = range(block, block + 1)
    if run:
        yield run

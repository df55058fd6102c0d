"""The files of a dataset in object storage: a prefix with its objects, or one object, a zip."""

import hashlib
import io
import json
from collections.abc import Iterable
from contextlib import closing
from typing import Any, BinaryIO, cast

from dipole.data.core.errors import DataError
from dipole.data.store.objects.blocks import BlockReader, ObjectRange
from dipole.data.store.objects.cache import BlockCache
from dipole.data.store.objects.client import ObjectClient, ObjectInfo
from dipole.data.store.objects.url import ObjectUrl
from dipole.data.store.zarr.tree import LARGEST_METADATA, FileRange, Seekable, Tree, ZipTree, member

LISTING = "files.json"  # what a web server, which lists nothing, is asked for


class ObjectTree:
    """A dataset that is a prefix: s3://bucket/robot.zarr. Objects are listed once, when it is
    opened; one that changes afterwards is an error, not a mixture of two."""

    remote = True

    def __init__(self, client: ObjectClient, cache: BlockCache) -> None:
        self.path: Any = client.url
        self._reader = BlockReader(client, cache)
        self._objects = _listed(client)
        if not self._objects:
            raise DataError(f"{self.path}: there is no dataset here; see to the name")
        n_bytes = sum(info.size for info in self._objects.values())
        self.keeps_all = n_bytes <= self._reader.cache_limit
        self._folders: dict[str, set[str]] = {}
        for name in self._objects:
            parts = name.split("/")
            for n in range(len(parts) - 1):
                self._folders.setdefault("/".join(parts[:n]), set()).add(parts[n])

    @property
    def version(self) -> str:
        """A text that changes with any of its objects."""
        return " ".join(f"{name}:{info.version}" for name, info in sorted(self._objects.items()))

    def size(self, name: str) -> int | None:
        info = self._objects.get(name)
        return None if info is None else info.size

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._reader.read(self._range(name, offset, length))

    def prefetch(self, ranges: Iterable[FileRange]) -> None:
        self._reader.prefetch(self._range(*one) for one in ranges if one.name in self._objects)

    def forget(self, name: str, offset: int, length: int) -> None:
        self._reader.forget(self._range(name, offset, length))

    def folders(self, name: str) -> list[str]:
        return sorted(self._folders.get(name, ()))

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(member(self, name), 2**18))

    def close(self) -> None:
        self._reader.close()

    def _range(self, name: str, offset: int, length: int) -> ObjectRange:
        info = self._objects.get(name)
        if info is None:
            raise FileNotFoundError(f"{self.path}/{name}")
        return ObjectRange(f"{self.path.key}/{name}", info, offset, offset + length)


class ObjectZipTree(ZipTree):
    """A dataset that is one object: s3://bucket/robot.zarr.zip."""

    remote = True

    def __init__(self, client: ObjectClient, cache: BlockCache) -> None:
        info = client.head(client.url.key)
        if info is None:
            raise DataError(f"{client.url}: there is no dataset here; see to the name")
        self._reader, self._info = BlockReader(client, cache), info
        super().__init__(client.url)
        self.keeps_all = info.size <= self._reader.cache_limit

    @property
    def version(self) -> str:
        return self._info.version

    def prefetch(self, ranges: Iterable[FileRange]) -> None:
        found = [(self._entries[one.name], one) for one in ranges if one.name in self._entries]
        # A local header is about as long as the name that is in it.
        self._reader.prefetch(
            self._range(
                entry.header_offset + one.offset, one.length + 2 * len(one.name) + _HEADER_ROOM
            )
            for entry, one in found
        )

    def forget(self, name: str, offset: int, length: int) -> None:
        entry = self._entries[name]
        self._reader.forget(self._range(entry.header_offset, _HEADER_ROOM + offset + length))

    def close(self) -> None:
        super().close()
        self._reader.close()

    def _pread(self, length: int, offset: int) -> bytes:
        return self._reader.read(self._range(offset, length))

    def _read_from(self, offset: int, length: int) -> bytes:
        return self._pread(length, offset)

    def _open_file(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(Seekable(self._read_from, self._info.size), 2**18))

    def _range(self, offset: int, length: int) -> ObjectRange:
        return ObjectRange(self.path.key, self._info, offset, offset + length)


_HEADER_ROOM = 256


def open_object_tree(url: ObjectUrl) -> Tree:
    """The files at a place in object storage; raises DataError where there is no dataset."""
    client, cache = ObjectClient(url), BlockCache.of_environment()
    tree: Tree = ObjectZipTree(client, cache) if url.suffix == ".zip" else ObjectTree(client, cache)
    return tree


def version_of(url: ObjectUrl) -> str:
    """A hash that changes with whatever of a dataset changes."""
    with closing(open_object_tree(url)) as files:
        version = files.version if isinstance(files, ObjectTree | ObjectZipTree) else ""
    return hashlib.sha256(version.encode()).hexdigest()[:16]


def _listed(client: ObjectClient) -> dict[str, ObjectInfo]:
    if not client.url.scheme.startswith("http"):
        return client.objects(client.url.key)
    return _from_listing(client)


def _from_listing(client: ObjectClient) -> dict[str, ObjectInfo]:
    """The objects as the dataset's own listing says them, for servers that list nothing."""
    key = f"{client.url.key}/{LISTING}"
    info = client.head(key)
    if info is None:
        raise DataError(
            f"{client.url}: a web server lists no files, and {LISTING} is not there, which "
            "`dipole data convert` writes into object storage. Give a zip, NAME.zarr.zip"
        )
    if info.size > LARGEST_METADATA:
        raise DataError(f"{client.url}: {LISTING} has {info.size:,} bytes, too many for a listing")
    try:
        said = json.loads(client.get(key, 0, info.size, info.tag))["files"]
        # Without tags of their own: one for all, which changes with the listing.
        return {
            str(name): ObjectInfo(int(size), "", f"{info.version} {name}")
            for name, size in said.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{client.url}: {LISTING} is not valid ({error!r})") from error

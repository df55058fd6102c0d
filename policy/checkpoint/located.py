"""What a user names as a checkpoint, as a folder of this machine: one in object storage is fetched.

$DIPOLE_CACHE_DIR/checkpoints/DIGEST/00001000/    the checkpoint, without the optimisers' state
    fetched.json                                  where it is from
"""

import hashlib
import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import time

from filelock import FileLock

from dipole.data.core.errors import CheckpointError, StorageError
from dipole.data.core.memory import format_bytes
from dipole.data.store.objects.cache import SIZE, cache_folder, cache_limit
from dipole.data.store.objects.client import ObjectClient
from dipole.data.store.objects.url import ObjectUrl, is_url
from dipole.policy.checkpoint.remote import (
    MANIFEST,
    Manifest,
    fetch_checkpoint,
    find_remote,
    read_manifest,
)
from dipole.policy.core.files import read_json, remove_folder, remove_leftovers, write_json

ORIGIN, LOCK = "fetched.json", "lock"
IN_USE = 3600.0  # seconds for which a checkpoint that was asked for stays
LOOKS = 3  # at a run that goes on, whose checkpoints come and go


def located(place: str | Path) -> Path:
    """A path as it is, "~" aside; of a place in object storage (s3://bucket/runs/NAME: its newest
    checkpoint, .../best, .../checkpoints/NNNNNNNN) a folder with the checkpoint, fetched unless it
    is in the cache.

    Raises CheckpointError where there is none, or not what its manifest says.
    """
    text = str(place)
    if not is_url(text):
        return Path(text).expanduser()
    wanted = ObjectUrl.parse(text)
    for look in range(1, LOOKS + 1):
        url = find_remote(wanted)
        try:
            return _cached(url)
        except (CheckpointError, StorageError):
            if look == LOOKS or ObjectClient(url).head((url / MANIFEST).key) is not None:
                raise  # otherwise it was removed while it was read: there is a newer one
    raise AssertionError("unreachable")


def origin(folder: Path) -> str:
    """How a checkpoint's folder is named where it may be looked for later: by its place in object
    storage, if it is from there."""
    if (folder / ORIGIN).is_file():
        return str(read_json(folder / ORIGIN)["from"])
    return str(folder)


def _cached(url: ObjectUrl) -> Path:
    client = ObjectClient(url)
    manifest = read_manifest(client, url)
    cache = cache_folder("checkpoints")
    digest = hashlib.sha256(f"{url}\n".encode() + manifest.content).hexdigest()[:24]
    folder = cache / digest / url.name
    if not _is_whole(folder, manifest):
        with FileLock(cache / LOCK):  # waits: of several processes the first one fetches
            if not _is_whole(folder, manifest):
                _make_room(cache, folder, manifest)
                fetch_checkpoint(client, url, manifest, folder, with_state=False)
                write_json(folder / ORIGIN, {"from": str(url)})
    with suppress(OSError):
        os.utime(folder.parent)
    return folder


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    sizes = {name: listed["bytes"] for name, listed in manifest.chosen(False).items()}
    try:
        return (folder / ORIGIN).is_file() and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except OSError:
        return False


def _make_room(cache: Path, folder: Path, manifest: Manifest) -> None:
    """Remove what was not used for the longest time, and what of this one is not whole."""
    if folder.exists():
        remove_folder(folder)
    folder.parent.mkdir(exist_ok=True)
    remove_leftovers(folder.parent)
    size = sum(listed["bytes"] for listed in manifest.chosen(False).values())
    limit = cache_limit(cache, partial(_used, cache))
    if size > limit:
        raise CheckpointError(
            f"a checkpoint of {format_bytes(size)} is larger than the cache in {cache}, "
            f"{format_bytes(limit)}: give it more by {SIZE}"
        )
    used = _used(cache) + size
    for entry in sorted(_entries(cache), key=lambda each: each.stat().st_mtime):
        if used <= limit or time() - entry.stat().st_mtime < IN_USE:
            break
        used -= _size(entry)
        shutil.rmtree(entry, ignore_errors=True)


def _used(cache: Path) -> int:
    return sum(_size(entry) for entry in _entries(cache))


def _entries(cache: Path) -> list[Path]:
    return [each for each in cache.iterdir() if each.is_dir()]


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())

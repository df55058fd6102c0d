"""A hash of what a dataset holds, quick enough to take at every start.

    numbers   size and checksum of every stored chunk: any changed action changes the hash
    images    size of every stored chunk, checksum of `SAMPLED` of them, evenly spaced
    videos    size of every file; of `SAMPLED` of them the last 64 KiB, which list packet sizes

Checksums are those that stand behind our chunks (crc32c); where chunks have none, as in zarr
version 2, they are taken of the stored bytes. It depends on neither path nor container, but on how
numbers are stored: the same frames compressed in another way have another fingerprint.
"""

import hashlib
import json
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dipole.data.store.video_array import VideoArray
from dipole.data.store.zarr_array import ZarrArray

if TYPE_CHECKING:
    from dipole.data.store.store import EpisodeStore

SAMPLED = 1024
SMALL_BYTES = 64 * 2**20  # arrays up to this size in memory are looked at whole, images too
_VIDEO_END = 64 * 2**10


def fingerprint(store: "EpisodeStore") -> str:
    """16 hexadecimal digits that tell datasets apart."""
    schema = {key: store.schema(key) for key in store.arrays}
    said = [schema, store.fps, store.environment, store.task_words, sorted(store.unreadable)]
    digest = hashlib.sha256(b"dipole 2" + json.dumps(said, sort_keys=True, default=str).encode())
    digest.update(store.episode_ends.astype("<i8").tobytes())
    digest.update(store.task_numbers().astype("<i8").tobytes())
    for key in sorted(store.arrays):
        array = store[key]
        digest.update(key.encode())
        if isinstance(array, VideoArray):
            _add_video(digest.update, store, array)
        elif isinstance(array, ZarrArray):
            _add_chunks(digest.update, array, store.schema(key)["kind"] in ("image", "depth"))
    return digest.hexdigest()[:16]


def legacy_fingerprint(store: "EpisodeStore") -> str:
    """The fingerprint that checkpoints of earlier versions hold.

    Of what the dataset says of itself and three frames a key: it does not see every change.
    """
    schema = {key: store.schema(key) for key in store.arrays}
    said = [schema, store.fps, store.environment, *([store.tasks] if any(store.tasks) else [])]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
    digest.update(store.episode_ends.astype("<i8").tobytes())
    for key in sorted(store.arrays):
        frames = store[key].take(np.array([0, store.n_frames // 2, store.n_frames - 1]))
        digest.update(np.ascontiguousarray(frames, frames.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:16]


def _add_chunks(add: Callable[[bytes], Any], array: ZarrArray, is_large: bool) -> None:
    whole = not is_large or array.nbytes <= SMALL_BYTES
    looked_at = range(array.n_chunks) if whole else _spaced(array.n_chunks)
    array.prefetch_checksums(sorted(looked_at))
    for block in range(array.n_chunks):
        add(array.stored_sizes(block))
        if block in looked_at:
            add(array.stored_checksum(block))


def _add_video(add: Callable[[bytes], Any], store: "EpisodeStore", array: VideoArray) -> None:
    looked_at = _spaced(store.n_episodes)
    for episode in range(store.n_episodes):
        name = array.file(episode)
        size = store.files.size(name) or 0
        add(struct.pack("<2q", size, array.first_frame(episode)))
        if size and episode in looked_at:
            add(store.files.read(name, max(size - _VIDEO_END, 0), _VIDEO_END))


def _spaced(count: int) -> set[int]:
    return set(np.linspace(0, count - 1, min(count, SAMPLED)).astype(int).tolist())

"""Where a conversion is written until it is whole: a folder beside its destination."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipole.data.sources.combine.joined import newest_change, whole_path
from dipole.data.sources.source import Source
from dipole.data.store.objects.cache import BlockCache
from dipole.data.store.objects.upload import refuse_unwritable
from dipole.data.store.objects.url import ObjectUrl
from dipole.data.store.partial_folder import (
    CONVERSION,
    RECORDING,
    clear_folder,
    locked_folder,
    refuse_existing,
)


@contextmanager
def work_folder(path: Path, words: dict[str, Any]) -> Iterator[Path]:
    """The folder beside `path` to work in, as an earlier attempt with the same words left it.

    It is removed at the end, and left as it is after an exception. Raises DataError where `path`
    exists, or another process works there.
    """
    refuse_existing(path)
    with locked_folder(path, RECORDING) as work:
        noted = work / CONVERSION
        if not noted.exists() or noted.read_text() != json.dumps(words, sort_keys=True):
            clear_folder(work)
            noted.write_text(json.dumps(words, sort_keys=True))
        yield work
        shutil.rmtree(work)


def staged(url: ObjectUrl) -> Path:
    """Where on the disk a conversion to object storage is written until it is uploaded.

    Raises DataError where nothing can be written to `url`.
    """
    refuse_unwritable(url)
    digest = hashlib.sha256(str(url).encode()).hexdigest()[:16]
    return BlockCache.of_environment().folder.parent / "conversions" / f"{digest}-{url.name}"


def conversion_identity(source: Source) -> dict[str, Any]:
    """What must be the same for an unfinished conversion to be gone on with."""
    info = source.info
    return {
        "source": whole_path(info.path),
        "changed": newest_change(info.path),
        "history": list(info.history),
        "fps": info.fps,
        "environment": info.environment,
        "episodes": [[ref.id, ref.n_frames] for ref in source.episodes()],
        "keys": {key: frame.to_dict() for key, frame in info.frames.items()},
    }

"""Checkpoints in object storage: found, and fetched whole or not at all.

    s3://bucket/runs/first/run.json, log.jsonl, best.json, tensorboard/
    .../checkpoints/00001000/config.json, model.safetensors, ...
    .../checkpoints/00001000/manifest.json    written last, removed first: without it there is none

A run lies there as in its folder, so that other tools may copy one to the other.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dipole.data.core.errors import CheckpointError
from dipole.data.core.memory import format_bytes
from dipole.data.store.objects.client import ObjectClient
from dipole.data.store.objects.transfer import download
from dipole.data.store.objects.url import WRITABLE, ObjectUrl
from dipole.policy.core.files import atomic_directory, describe

CHECKPOINTS, MANIFEST, BEST = "checkpoints", "manifest.json", "best.json"
STATE = "training."  # the beginning of the files that resuming alone needs, beside training.json
LARGEST_JSON = 16 * 2**20  # bytes
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.(safetensors|json)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's manifest.json, checked.

    content: The file itself.
    files: {name: its "bytes" and "sha256"}.
    """

    content: bytes
    files: Mapping[str, Mapping[str, Any]]

    @classmethod
    def parse(cls, content: bytes, place: ObjectUrl) -> "Manifest":
        """Raises CheckpointError for what lists no files, or others than weights and JSON."""
        try:
            files = json.loads(content)["files"]
            for name, listed in files.items():
                if not _FILE.fullmatch(name) or name == MANIFEST:
                    raise CheckpointError(f"{place}: {name!r} is no file of a checkpoint")
                if type(listed["bytes"]) is not int or listed["bytes"] < 0:
                    raise ValueError(f"bytes of {name}")
                if set(listed) != {"bytes", "sha256"} or not _SHA256.fullmatch(listed["sha256"]):
                    raise ValueError(f"sha256 of {name}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{place}: not a checkpoint's manifest ({error!r})") from error
        return cls(content, files)

    def chosen(self, with_state: bool) -> dict[str, Mapping[str, Any]]:
        """The files; with_state: whether also those that resuming alone needs."""
        return {
            name: listed
            for name, listed in self.files.items()
            if with_state or not (name.startswith(STATE) and name.endswith(".safetensors"))
        }


def find_remote(url: ObjectUrl) -> ObjectUrl:
    """The checkpoint that a place means: itself, RUN/best, or a run's newest whole one.

    Raises CheckpointError where there is none.
    """
    client = ObjectClient(url)
    if client.head((url / MANIFEST).key) is not None:
        return url
    if url.name == "best" and url.parent != url:
        return url.parent / CHECKPOINTS / _best(client, url.parent)
    if url.scheme not in WRITABLE:
        raise CheckpointError(
            f"{url}: no checkpoint (it has no {MANIFEST}), and a web server lists no files: give "
            "one checkpoint, RUN/checkpoints/NNNNNNNN, or RUN/best"
        )
    found = whole_checkpoints(client.objects((url / CHECKPOINTS).key))
    if not found:
        raise CheckpointError(
            f"{url}: neither a checkpoint (it has no {MANIFEST}) nor a run with a whole one; see "
            "to the name, which is what train.copy_to was"
        )
    return url / CHECKPOINTS / found[-1]


def whole_checkpoints(names: Iterable[str]) -> list[str]:
    """The names of whole checkpoints, oldest first. names: Of all objects in `checkpoints`."""
    split = (name.split("/") for name in names)
    whole = [one[0] for one in split if len(one) == 2 and one[1] == MANIFEST and one[0].isdigit()]
    return sorted(whole, key=int)


def read_manifest(client: ObjectClient, url: ObjectUrl) -> Manifest:
    """Of the checkpoint at `url`; raises CheckpointError where there is none."""
    content = read_small(client, url / MANIFEST)
    if content is None:
        raise CheckpointError(f"{url}: there is no whole checkpoint (it has no {MANIFEST})")
    return Manifest.parse(content, url / MANIFEST)


def read_small(client: ObjectClient, url: ObjectUrl, limit: int = LARGEST_JSON) -> bytes | None:
    """A file's content, None where there is none. Raises CheckpointError for more than `limit`."""
    info = client.head(url.key)
    if info is None:
        return None
    if info.size > limit:
        raise CheckpointError(f"{url}: has {format_bytes(info.size)}, too much for what it is")
    return client.get(url.key, 0, info.size, info.tag) if info.size else b""


def fetch_checkpoint(
    client: ObjectClient, url: ObjectUrl, manifest: Manifest, target: Path, with_state: bool
) -> None:
    """Write a checkpoint to the folder `target`, which appears whole, each file as listed.

    with_state: Whether also what resuming alone needs: the optimisers' state.
    Raises CheckpointError for what is not as listed, or where the disk has no room.
    """
    files = manifest.chosen(with_state)
    size = sum(listed["bytes"] for listed in files.values())
    target.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise CheckpointError(
            f"{url}: has {format_bytes(size)}, and {target.parent} {format_bytes(free)} of room"
        )
    with atomic_directory(target) as beside:
        for name, listed in files.items():
            _fetch(client, url / name, listed, beside / name)
        (beside / MANIFEST).write_bytes(manifest.content)


def _fetch(client: ObjectClient, url: ObjectUrl, listed: Mapping[str, Any], target: Path) -> None:
    for _ in range(2):  # what arrives damaged is fetched once more
        info = client.head(url.key)
        if info is None or info.size != listed["bytes"]:
            found = "is missing" if info is None else f"has {info.size:,} bytes"
            raise CheckpointError(
                f"{url}: {found}, and the manifest says {listed['bytes']:,} bytes: the checkpoint "
                "was copied or replaced in part; use another one of the run"
            )
        download(client, url.key, info, target)
        if describe(target) == listed:
            return
    raise CheckpointError(
        f"{url}: differs from what the manifest says (SHA-256): it was damaged or replaced; use "
        "another checkpoint of the run"
    )


def _best(client: ObjectClient, run: ObjectUrl) -> str:
    content = read_small(client, run / BEST)
    if content is None:
        raise CheckpointError(f"{run}: has no {BEST}: no checkpoint was evaluated in training")
    try:
        name = str(json.loads(content)["checkpoint"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / BEST}: not readable ({error!r})") from error
    if not name.isdigit():
        raise CheckpointError(f"{run / BEST}: {name!r} is no checkpoint's name")
    return name

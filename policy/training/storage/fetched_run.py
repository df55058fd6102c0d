"""A run in object storage, brought to a folder of this machine, where it goes on."""

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dipole.data.core.errors import CheckpointError, ConfigError, DataError
from dipole.data.core.lock import exclusive
from dipole.data.store.objects.transfer import download
from dipole.data.store.objects.url import WRITABLE, ObjectUrl
from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.checkpoint.remote import (
    BEST,
    CHECKPOINTS,
    MANIFEST,
    fetch_checkpoint,
    find_remote,
    read_manifest,
    read_small,
    whole_checkpoints,
)
from dipole.policy.core.files import atomic_write, write_json
from dipole.policy.training.output.run_folder import LOCK, RUN_FILE
from dipole.policy.training.storage.remote_run import COPY, Owner, RemoteRun
from dipole.policy.training.storage.run_copy import BOARD, EVENTS

LOG = "log.jsonl"
OURS = {RUN_FILE, LOCK, LOG, BEST, COPY, BOARD, CHECKPOINTS}  # what is in a run's folder


def read_remote_run(url: ObjectUrl) -> dict[str, Any]:
    """A run's run.json: its `config`, and which launcher's it is.

    Raises CheckpointError where there is none.
    """
    if url.scheme not in WRITABLE:
        raise ConfigError(
            f"resume={url}: a web server lists no files: copy the run's folder to this machine"
        )
    content = read_small(RemoteRun(url).client, url / RUN_FILE)
    if content is None:
        raise CheckpointError(f"resume={url}: no run there (it has no {RUN_FILE})")
    try:
        said: dict[str, Any] = json.loads(content)
        said["config"]["train"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{url / RUN_FILE}: damaged ({error!r})") from error
    return said


def fetch_run(
    url: ObjectUrl, output: Path, newer: bool = False, say: Callable[[str], None] = print
) -> str:
    """Bring the newest checkpoint of a run, the best one and the run's files to the folder
    `output`, whose name it returns.

    newer: Whether a newer checkpoint may be in `output`, of the same run: it goes on with that.
    Raises ConfigError where `output` holds something else, or a newer checkpoint of the run.
    """
    said, remote = read_remote_run(url), RemoteRun(url)
    owner, objects = remote.owner(), remote.objects()
    there = whole_checkpoints(_within(CHECKPOINTS, objects))
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(output / LOCK, f"run {output}"))
        except DataError as error:
            raise ConfigError(f"output={output}: another process trains there") from error
        _refuse_other(output, url, owner)
        here = [path.name for path in checkpoints_of(output)]
        if here and (not there or int(here[-1]) > int(there[-1])):
            if newer:
                return str(output)
            raise ConfigError(
                f"output={output} holds checkpoint {here[-1]} of this run, and {url} none so new: "
                f"go on with it by `dipole train resume={output}`"
            )
        _fetch_checkpoints(remote, there, output, say)
        _fetch_files(remote, objects, output)
        said["config"]["output"] = str(output)
        write_json(output / RUN_FILE, said)  # last: now there is a run
    return str(output)


def _refuse_other(output: Path, url: ObjectUrl, owner: Owner | None) -> None:
    """Raises ConfigError where a folder holds anything but this very run."""
    found = {path.name for path in output.iterdir() if not path.name.startswith(".")} - {LOCK}
    if not found:
        if owner is not None:  # what is fetched in part is known for what it is
            (output / COPY).write_bytes(owner.content())
        return
    own = Owner.of_folder(output)
    if found - OURS or own is None or owner is None or own.run != owner.run:
        odd = min(found - OURS, default="another run")
        raise ConfigError(
            f"output={output} holds {odd}, and not the run of {url}: choose another output"
        )


def _fetch_checkpoints(
    remote: RemoteRun, there: list[str], output: Path, say: Callable[[str], None]
) -> None:
    """The newest one, and the best."""
    wanted = there[-1:]
    best = read_small(remote.client, remote.url / BEST)
    if best is not None:
        wanted.insert(0, find_remote(remote.url / "best").name)
    for name in dict.fromkeys(wanted):
        place, folder = remote.url / CHECKPOINTS / name, output / CHECKPOINTS / name
        manifest = read_manifest(remote.client, place)
        if folder.exists() and (folder / MANIFEST).read_bytes() != manifest.content:
            raise ConfigError(
                f"output={output} holds another checkpoint {name} of this run than {remote.url}: "
                "choose another output"
            )
        if not folder.exists():
            say(f"fetching {place} to {output}")
            fetch_checkpoint(remote.client, place, manifest, folder, with_state=True)


def _fetch_files(remote: RemoteRun, objects: Iterable[str], output: Path) -> None:
    events = [name for name in _within(BOARD, objects) if EVENTS.fullmatch(name)]
    for name in (LOG, BEST, *(f"{BOARD}/{event}" for event in events)):
        info = remote.client.head((remote.url / name).key)
        if info is not None:
            (output / name).parent.mkdir(exist_ok=True)
            with atomic_write(output / name) as beside:
                download(remote.client, (remote.url / name).key, info, beside)


def _within(folder: str, names: Iterable[str]) -> list[str]:
    """Names in a folder, relative to it."""
    return [n.removeprefix(f"{folder}/") for n in names if n.startswith(f"{folder}/")]

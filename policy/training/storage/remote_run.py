"""A run in object storage, written: a checkpoint there is whole, or is none.

copy.json says which run lies there, and which process writes it at present. The process that began
last writes; an earlier one that still lives finds the other's name there, and stops.
"""

import json
import platform
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dipole.data.core.errors import CheckpointError, ConfigError, StorageError
from dipole.data.store.objects.client import ObjectClient, ObjectInfo
from dipole.data.store.objects.transfer import is_same
from dipole.data.store.objects.url import ObjectUrl
from dipole.policy.checkpoint.remote import CHECKPOINTS, MANIFEST, read_small, whole_checkpoints
from dipole.policy.core.files import read_json

COPY = "copy.json"


class TakenError(ConfigError):
    """The place holds something else, or another process writes there."""


@dataclass(frozen=True)
class Owner:
    """run: Which run it is, on whatever machine. writer: The process that writes it."""

    run: str
    writer: str = ""

    @classmethod
    def read(cls, content: bytes | None, place: object) -> "Owner | None":
        """Of a copy.json, None where there is none. Raises CheckpointError for a damaged one."""
        if content is None:
            return None
        try:
            said = json.loads(content)
            return cls(str(said["run"]), str(said.get("writer", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{place}: damaged ({error!r})") from error

    @classmethod
    def of_folder(cls, run: Path) -> "Owner | None":
        """Of a run's folder on this machine, None for one that was never copied."""
        file = run / COPY
        return cls.read(file.read_bytes(), file) if file.exists() else None

    @classmethod
    def new(cls, run: str | None = None) -> "Owner":
        """This process as the writer of a run; None: of a new one."""
        return cls(run or uuid.uuid4().hex, f"{platform.node()}/{uuid.uuid4().hex}")

    def content(self) -> bytes:
        return (json.dumps({"run": self.run, "writer": self.writer}, indent=1) + "\n").encode()


class RemoteRun:
    """Raises StorageError from whatever the service refuses, or cannot be reached for."""

    def __init__(self, url: ObjectUrl) -> None:
        self.url, self.client = url, ObjectClient(url)

    def objects(self) -> dict[str, ObjectInfo]:
        """All that lies there, by name."""
        return self.client.objects(self.url.key)

    def checkpoints(self) -> dict[str, dict[str, ObjectInfo]]:
        """{checkpoint: {file: its object}}, whole or not."""
        found: dict[str, dict[str, ObjectInfo]] = {}
        for name, info in self.client.objects((self.url / CHECKPOINTS).key).items():
            checkpoint, _, file = name.partition("/")
            if checkpoint.isdigit():
                found.setdefault(checkpoint, {})[file] = info
        return found

    def manifest(self, checkpoint: str) -> bytes | None:
        """Of a checkpoint there."""
        return read_small(self.client, self.url / CHECKPOINTS / checkpoint / MANIFEST)

    def owner(self) -> Owner | None:
        """What copy.json says."""
        return Owner.read(read_small(self.client, self.url / COPY), self.url / COPY)

    def claim(self, owner: Owner, newest: int) -> None:
        """Write there from now on.

        newest: The run's newest step on this machine. Raises TakenError where another run lies, or
        this one with a newer checkpoint.
        """
        held = self.owner()
        if held is None:
            self._claim_empty(owner)
            return
        if held.run != owner.run:
            raise self._taken()
        ahead = [name for name in whole_checkpoints(self._names()) if int(name) > newest]
        if ahead:
            raise TakenError(
                f"{self.url} holds a newer checkpoint of this run, {ahead[-1]}: go on with that by "
                f"`dipole train resume={self.url} output=FOLDER`, or copy to another place by "
                "train.copy_to"
            )
        self.put(COPY, owner.content())

    def refuse_run(self) -> None:
        """Raises TakenError where anything lies."""
        if self.objects():
            raise self._taken()

    def check_owner(self, owner: Owner) -> None:
        """Raises TakenError where another process has begun to write since."""
        held = self.owner()
        if held != owner:
            by = f" by {held.writer.partition('/')[0]}" if held else ""
            raise TakenError(f"{self.url}: another process goes on with this run{by}")

    def put(self, name: str, content: bytes) -> None:
        """Write a small file."""
        self.client.put((self.url / name).key, content)

    def send(
        self, folder: Path, there: Mapping[str, ObjectInfo], before_it_counts: Callable[[], None]
    ) -> bool:
        """Write a checkpoint, what has arrived of it aside; False where it was removed meanwhile.

        there: Its objects so far.
        before_it_counts: Called when all but the manifest has arrived.
        """
        place = self.url / CHECKPOINTS / folder.name
        with ExitStack() as opened:
            try:  # open files can be read whatever becomes of the folder
                names = [MANIFEST, *read_json(folder / MANIFEST).get("files", {})]
                files = {n: opened.enter_context((folder / n).open("rb")) for n in names}
                manifest = files.pop(MANIFEST).read()
            except (OSError, CheckpointError):
                if folder.exists():
                    raise
                return False
            if MANIFEST in there:  # of another checkpoint of that step
                self.client.delete([(place / MANIFEST).key])
            self._remove(place, [name for name in there if name not in files])
            for name, file in files.items():
                if name not in there or not is_same(there[name], file):
                    self.client.put((place / name).key, file)
            arrived = self.client.objects(place.key)
            sizes = {name: file.seek(0, 2) for name, file in files.items()}
        for name, size in sizes.items():
            if name not in arrived or arrived[name].size != size:
                raise StorageError(f"{place / name}: did not arrive whole")
        before_it_counts()
        self.client.put((place / MANIFEST).key, manifest)
        return True

    def remove(self, checkpoint: str, files: Mapping[str, ObjectInfo]) -> None:
        """Remove a checkpoint, its manifest first."""
        place = self.url / CHECKPOINTS / checkpoint
        if MANIFEST in files:
            self.client.delete([(place / MANIFEST).key])
        self._remove(place, [name for name in files if name != MANIFEST])

    def _remove(self, place: ObjectUrl, names: list[str]) -> None:
        self.client.delete([(place / name).key for name in names if name != MANIFEST])

    def _names(self) -> list[str]:
        return list(self.client.objects((self.url / CHECKPOINTS).key))

    def _claim_empty(self, owner: Owner) -> None:
        self.refuse_run()
        key = (self.url / COPY).key
        try:
            self.client.put(key, owner.content(), new=True)
        except StorageError as error:
            held = self.owner()
            if held is None:
                raise
            if held != owner:  # else it is an attempt whose answer was lost
                raise self._taken() from error

    def _taken(self) -> TakenError:
        return TakenError(
            f"train.copy_to={self.url} already holds a run, or other files: go on with that run by "
            f"`dipole train resume={self.url} output=FOLDER`, or choose another place"
        )

"""A run's copy in object storage, brought up to date by a thread while training goes on.

Each time that a checkpoint is whole on the disk, the thread looks what is missing there and sends
it, the newest checkpoint first; then the run's small files, and what the run no longer keeps is
removed. Training waits for none of it: of a store that is slower than checkpoints come, those are
sent that are kept by the time their turn has come. What fails is tried again at the next time.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dipole.data.core.errors import DipoleError, StorageError
from dipole.data.store.objects.client import ObjectInfo
from dipole.data.store.objects.url import ObjectUrl
from dipole.policy.checkpoint import best_checkpoint, checkpoints_of, kept_checkpoints
from dipole.policy.checkpoint.remote import BEST, CHECKPOINTS, MANIFEST
from dipole.policy.core.files import atomic_write
from dipole.policy.training.config import TrainConfig
from dipole.policy.training.output.checkpoint_writer import CheckpointWriter
from dipole.policy.training.storage.remote_run import COPY, Owner, RemoteRun, TakenError

FILES = ("run.json", "log.jsonl")
BOARD = "tensorboard"
QUIET = 2.0  # seconds of waiting in the end that need no word
EVENTS = re.compile(r"events\.out\.tfevents\.[A-Za-z0-9_.-]+")
Objects = dict[str, dict[str, ObjectInfo]]


class RunCopy:
    """Of the run in the folder `run`, at `url`.

    keep: How many of the newest checkpoints stay, beside the best.
    say: Tells the terminal; called by the thread, too.
    """

    def __init__(self, run: Path, url: ObjectUrl, keep: int, say: Callable[[str], None]) -> None:
        self.run, self.url, self.keep, self.say = run, url, keep, say
        self.remote = RemoteRun(url)
        self._owner: Owner | None = None
        self._claimed, self._ending, self._given_up = False, False, False
        self._failure: str | None = None
        self._sent: dict[str, tuple[int, int]] = {}  # small files, with size and time
        self._best = b""
        self._same: dict[str, ObjectInfo] = {}  # manifests that are those on the disk
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def claim(self, new: bool) -> None:
        """Before anything is written there. new: Whether the run begins.

        Raises TakenError where the place holds something else or newer, StorageError where a new
        run cannot reach it; one that goes on tries again later.
        """
        before = None if new else Owner.of_folder(self.run)
        self._owner = Owner.new(before.run if before else None)
        try:
            self._claim()
        except StorageError as error:
            if new:
                raise
            self._failed(error)

    @contextmanager
    def beside(self, writer: CheckpointWriter) -> Iterator[None]:
        """Send what is written while it lasts. After an error the rest is left to whoever goes on
        with the run."""
        writer.written = self.wanted
        self.start()
        try:
            yield
        except BaseException:
            self._given_up = self._ending = True
            self.wanted()
            raise

    def start(self) -> None:
        """Begin to send."""
        self.say(f"copy: {self.url}, in the background")
        # It does not keep a process alive that ends by an error.
        self._thread = threading.Thread(target=self._work, name="run copy", daemon=True)
        self._thread.start()
        self.wanted()

    def wanted(self) -> None:
        """There is something new; returns at once."""
        self._wanted.set()

    def finish(self) -> str | None:
        """Send what is left; what could not be sent, and why, or None where all is there."""
        self._ending = True
        self.wanted()
        if self._thread is not None:
            self._thread.join(QUIET)
            if self._thread.is_alive():
                self.say(f"copy: sending what is left to {self.url}")
            self._thread.join()
        return self._failure

    def _work(self) -> None:
        ending = False
        while not ending:
            self._wanted.wait()
            self._wanted.clear()
            ending = self._ending
            if self._given_up:
                return
            try:
                self.bring_up_to_date()
                self._failure = None
            except TakenError as error:
                self._given_up = True
                self._failed(error)
            except Exception as error:  # whatever it is, training goes on
                self._failed(error)

    def bring_up_to_date(self) -> None:
        """Send what is missing there, and remove what is not kept. Raises StorageError."""
        if not self._claimed:
            self._claim()
        there = self.remote.checkpoints()
        sent = False
        for folder in self._missing(there):
            objects = there.get(folder.name, {})
            sent |= self.remote.send(folder, objects, before_it_counts=self._send_files)
            there = self.remote.checkpoints()
        if not sent:
            self._send_files()
        best = self._send_best(there)
        if best is not None:
            self._remove_old(there, best)

    def _claim(self) -> None:
        assert self._owner is not None
        done = checkpoints_of(self.run)
        self.remote.claim(self._owner, int(done[-1].name) if done else 0)
        with atomic_write(self.run / COPY) as beside:
            beside.write_bytes(self._owner.content())
        self._claimed = True

    def _missing(self, there: Objects) -> Iterator[Path]:
        """Kept checkpoints that are not there, the newest one at each time."""
        looked_at = {name for name, objects in there.items() if self._is_there(name, objects)}
        while not self._given_up:
            missing = [name for name in self._kept() if name not in looked_at]
            if not missing:
                return
            looked_at.add(missing[-1])
            yield self.run / CHECKPOINTS / missing[-1]

    def _kept(self) -> list[str]:
        names = [path.name for path in checkpoints_of(self.run)]
        return kept_checkpoints(names, self.keep, best_checkpoint(self.run))

    def _is_there(self, name: str, objects: dict[str, ObjectInfo]) -> bool:
        """Whether a whole checkpoint is, and is the one of that name on the disk."""
        info = objects.get(MANIFEST)
        if info is None:
            return False
        if self._same.get(name) != info:
            try:
                own = (self.run / CHECKPOINTS / name / MANIFEST).read_bytes()
            except FileNotFoundError:
                return True  # not kept, at least not any more
            if self.remote.manifest(name) != own:
                return False
            self._same[name] = info
        return True

    def _send_files(self) -> None:
        """What has changed of the run's small files. A checkpoint counts after the log of its steps
        is there."""
        assert self._owner is not None
        self.remote.check_owner(self._owner)
        board = sorted((self.run / BOARD).glob("events.*"))
        events = [f"{BOARD}/{path.name}" for path in board if EVENTS.fullmatch(path.name)]
        if not self._sent:
            self._note_sent(events)
        for name in (*FILES, *events):
            self._send_changed(name)

    def _note_sent(self, events: list[str]) -> None:
        """Of files that only grow: those of earlier starts, which are there already."""
        there = self.remote.client.objects((self.url / BOARD).key)
        for name in events:
            info, state = there.get(name.removeprefix(f"{BOARD}/")), (self.run / name).stat()
            if info is not None and info.size == state.st_size:
                self._sent[name] = (state.st_size, state.st_mtime_ns)

    def _send_best(self, there: Objects) -> str | None:
        """best.json, once the checkpoint that it names is there: its name, "" where none is best,
        None where it is not there yet."""
        file = self.run / BEST
        if not file.exists():
            return ""
        content = file.read_bytes()
        name = str(json.loads(content)["checkpoint"])
        if MANIFEST not in there.get(name, {}):
            return None
        if content != self._best:
            self.remote.put(BEST, content)
            self._best = content
        return name

    def _send_changed(self, name: str) -> None:
        file = self.run / name
        if not file.exists():
            return
        state = file.stat()
        version = (state.st_size, state.st_mtime_ns)
        if self._sent.get(name) != version:
            self.remote.put(name, file.read_bytes())
            self._sent[name] = version

    def _remove_old(self, there: Objects, best: str) -> None:
        """What the run does not keep, and what earlier processes left that is not whole."""
        whole = sorted((name for name in there if MANIFEST in there[name]), key=int)
        kept = {*kept_checkpoints(whole, self.keep, best), *self._kept()}
        for name in sorted(there.keys() - kept, key=int):
            self.remote.remove(name, there[name])

    def _failed(self, error: Exception) -> None:
        left = "" if self._given_up else "; it is tried again with the next checkpoint"
        self._failure = f"{error}" if isinstance(error, DipoleError) else repr(error)
        if not self._ending:
            self.say(f"copy: {self._failure}{left}; {self.run} has everything")


class NoCopy:
    """Of runs that are copied nowhere, and of processes that write nothing."""

    def claim(self, new: bool) -> None:
        pass

    @contextmanager
    def beside(self, writer: CheckpointWriter) -> Iterator[None]:
        yield

    def finish(self) -> str | None:
        return None


def copy_of(
    run: Path, settings: TrainConfig, is_main: bool, say: Callable[[str], None]
) -> RunCopy | NoCopy:
    """What keeps the copy of a run that is trained by these settings."""
    if settings.copy_place is None or not is_main:
        return NoCopy()
    return RunCopy(run, settings.copy_place, settings.keep_checkpoints, say)


def refuse_taken(settings: TrainConfig) -> None:
    """Raises ConfigError where a new run could not be copied: its place holds something."""
    if settings.copy_place is not None:
        RemoteRun(settings.copy_place).refuse_run()

"""`dipole serve` as a process: newer weights while a client asks on and on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.commands.serve import _noted_hangup
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.server import load
from dipole.deploy.server.load import load_model, newest_of

HERE = Path(__file__).parent
sys.path += [str(HERE / "support"), str(HERE.parent / "apps")]
from real_server import a_request, ask, plain_client  # noqa: E402
from tiny_checkpoint import save_tiny  # noqa: E402

SEEN = {
    "keypoint": np.full((2, 9, 2), 200, np.float32),
    "agent_pos": np.full((2, 2), 9, np.float32),
}


def checkpoint(run, number):
    """A run's checkpoint whose actions tell its number."""
    return save_tiny(run / "checkpoints" / f"{number:08d}", centre=100.0 * number)


def terms_of(run):
    return FromCheckpoint(str(run), runtime="eager", threads=1)


class Serving:
    """The command, and the lines that it prints."""

    def __init__(self, run, *words):
        settings = [f"checkpoint={run}", "port=0", "runtime=eager", "threads=1", *words]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dipole.apps.main", "serve", *settings],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines, self._more = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self.said("serving on").split()[2].rstrip(",")

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()

    def said(self, part, times=1):
        """The newest line with this part, once there are so many."""

        def found():
            return [line for line in self.lines if part in line]

        with self._more:
            assert self._more.wait_for(lambda: len(found()) >= times, 240), self.lines
            return found()[-1]

    def close(self):
        self.process.terminate()
        assert self.process.wait(60) == 0, self.lines


class Asking:
    """A client that asks without a pause, in a thread. numbers: Of the checkpoints that each answer
    is of."""

    def __init__(self, address):
        self.numbers, self._stop = [], threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(address,), daemon=True)
        self._thread.start()

    def _ask(self, address):
        with plain_client(address) as client:
            while not self._stop.is_set():
                actions = ask(client, a_request(len(self.numbers), SEEN))["actions"]
                (number,) = set(np.round(actions / 100).flatten().tolist())
                self.numbers.append(int(number))

    def next(self):
        """The number of an answer that is asked for from now on."""
        until, there = time.monotonic() + 60, len(self.numbers)
        while len(self.numbers) < there + 2:
            assert self._thread.is_alive(), "a request was lost"
            assert time.monotonic() < until
            time.sleep(0.01)
        return self.numbers[-1]

    def close(self):
        self._stop.set()
        self._thread.join(60)


@pytest.mark.heavy
@pytest.mark.parametrize("told", ["by SIGHUP", "by itself"])
def test_newer_weights_are_served_without_a_lost_request_and_broken_ones_are_not(tmp_path, told):
    checkpoint(tmp_path, 1)
    serving = Serving(tmp_path, *(["watch=0.5"] if told == "by itself" else []))
    asking = Asking(serving.address)

    def look():
        if told == "by SIGHUP":
            os.kill(serving.process.pid, signal.SIGHUP)

    try:
        assert asking.next() == 1
        checkpoint(tmp_path, 2)
        look()
        serving.said("weights: exchanged")
        assert asking.next() == 2

        with_broken_weights(checkpoint(tmp_path / "elsewhere", 3), tmp_path)
        look()
        assert "00000003" in serving.said("weights: kept, because")
        assert asking.next() == 2

        checkpoint(tmp_path, 4)
        look()
        serving.said("weights: exchanged", times=2)
        assert asking.next() == 4
    finally:
        asking.close()
        serving.close()
    assert asking.numbers == sorted(asking.numbers)
    assert set(asking.numbers) == {1, 2, 4}


def with_broken_weights(folder, run):
    """Put a checkpoint into a run, its weights cut short."""
    weights = folder / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    folder.rename(run / "checkpoints" / folder.name)


def test_a_hangup_while_a_policy_is_loaded_is_remembered():
    with _noted_hangup() as noted:
        signal.raise_signal(signal.SIGHUP)
    assert noted == [signal.SIGHUP]


@pytest.mark.slow
def test_a_checkpoint_that_appears_while_another_is_loaded_is_found_later(tmp_path, monkeypatch):
    checkpoint(tmp_path, 1)
    newest, loading = newest_of(terms_of(tmp_path), 1), load.load_compute

    def slowly(terms):
        made = loading(terms)
        checkpoint(tmp_path, 2)
        return made

    monkeypatch.setattr(load, "load_compute", slowly)
    schema, _ = load_model(terms_of(tmp_path), 1)
    monkeypatch.undo()
    found = newest(schema.fingerprint)
    assert found is not None
    assert found[0].fingerprint != schema.fingerprint
    assert newest(found[0].fingerprint) is None

"""Worker processes end with the one that started them, whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dipole.envs.rollout import Command, RolloutError
from dipole.envs.rollout.workers import WorkerSlots, allowed_seconds

sys.path.insert(0, str(Path(__file__).parent))
from tiny_simulator import TinySimulator

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from functools import partial
import numpy as np
from tiny_simulator import TinySimulator
from dipole.envs.rollout import Command
from dipole.envs.rollout.workers import WorkerSlots

if __name__ == "__main__":
    slots = WorkerSlots(partial(TinySimulator, nap=0.05, pid_folder=sys.argv[2]), 2, workers=2)
    try:
        while True:
            for actions in (None, np.zeros((4, 2))):
                for slot in range(4):
                    slots.send(Command(slot, 0, seed=4, actions=actions))
                while slots.busy:
                    slots.collect()
    finally:
        slots.close()
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_main_process(tmp_path, sent):
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(SCRIPT)
    pids.mkdir()
    command = [sys.executable, str(script), str(Path(__file__).parent), str(pids)]
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: len(list(pids.iterdir())) == 2)
            workers = [int(path.name) for path in pids.iterdir()]
            if sent == signal.SIGINT:
                os.killpg(process.pid, sent)  # as Ctrl-C in a terminal does
            else:
                process.kill()
            errors = process.communicate(timeout=120)[1]
            wait_until(lambda: not any(alive(pid) for pid in workers))
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == -sent
    if sent == signal.SIGINT:
        assert errors.count("Traceback") == 1  # the main process's own: workers end without a word
        assert errors.rstrip().endswith("KeyboardInterrupt")


def test_a_worker_may_take_as_long_as_its_steps_may():
    chunk = Command(0, 0, 4, np.zeros((8, 2)))
    assert [allowed_seconds(chunk, timeout) for timeout in (60.0, 0.5)] == [480.0, 4.0]
    assert [allowed_seconds(Command(0, 0, 4), each) for each in (60.0, 300.0)] == [300.0, 900.0]


def all_of(slots):
    while slots.busy:
        slots.collect()


@pytest.mark.heavy
def test_a_worker_that_hangs_is_ended_and_its_episode_named():
    make = partial(TinySimulator, hangs_in=5)
    slots = WorkerSlots(make, 2, workers=2, timeout=0.5)
    try:
        processes = [worker._process for worker in slots._workers]
        for actions in (None, np.zeros((4, 2))):
            for slot, seed in enumerate((4, 5)):
                slots.send(Command(slot, slot, seed, actions=actions))
            if actions is None:
                all_of(slots)
        with pytest.raises(RolloutError, match=r"episode 1 \(seed 5\): .* not answered for 2 s"):
            all_of(slots)
        assert not processes[1].is_alive()
    finally:
        slots.close()

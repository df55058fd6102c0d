"""Kill a run at random instants while it writes checkpoints, and resume it; see test_training.py.

usage: kill_runs.py DATASET FOLDER KILLS. Prints one line per kill: the step it was resumed from.
Children are forked from a process that has imported everything, so that a kill costs no start-up.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch.utils.tensorboard  # here, and diffusers too, or every child would import them anew
from diffusers.schedulers import scheduling_ddpm  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer

from dipole.policy.checkpoint import checkpoints_of, load_policy

EVERY_STEP = {"steps": 100_000, "checkpoint_every": 1, "validate_every": 0, "keep_checkpoints": 1}


def child(run: Path, dataset: Path) -> int:
    """Fork a process that trains on, with a checkpoint after every step."""
    pid = os.fork()
    if pid == 0:
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        try:
            make_trainer(run, dataset, **EVERY_STEP).fit()
        finally:
            os._exit(1)
    return pid


def newest(run: Path) -> int:
    found = checkpoints_of(run)
    return int(found[-1].name) if found else 0


def main(dataset: Path, run: Path, kills: int) -> None:
    torch.set_num_threads(1)
    random.seed(0)
    step = 0
    for _ in range(kills):
        pid = child(run, dataset)
        while newest(run) <= step + 1:  # it resumed, and went on
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                raise SystemExit(f"the run could not go on from step {step}")
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert newest(run) >= step
        step = newest(run)
        load_policy(run)
        print(step, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

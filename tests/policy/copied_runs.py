"""Runs that are copied to object storage, in processes that are killed; see test_run_copy_s3.py.

usage: copied_runs.py kills|ranks DATASET FOLDER URL. Prints a line for each start of a run.
Children are forked from a process that has imported everything and asked nothing of a store: the
client's threads do not survive a fork.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch.utils.tensorboard  # here, or every child would import it anew
from diffusers.schedulers import scheduling_ddpm  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))
from ranks_fixture import ended, in_processes, silent
from training_fixture import SETTINGS, SMALL

from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.training.process.launch import Launch
from dipole.policy.training.run import resume_run, start_run
from dipole.policy.training.storage.resumption import begun_before, run_to_resume


def configuration(dataset, **train):
    """What `dipole train` composes, as far as a run needs it."""
    settings = {**SETTINGS, "checkpoint_every": 2, "validate_every": 0, "threads": 1, **train}
    return {
        "task": {
            "name": "walk",
            "dataset": str(dataset),
            "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
            "observation": {"state": {"shape": [3], "kind": "state"}},
            "action": {"shape": [2], "kind": "action"},
        },
        "dataset": None,
        "policy": {"denoiser": SMALL},
        "objective": {"name": "behaviour_cloning"},
        "train": settings,
        "evaluate": {},
    }


def trained(config, output, url):
    """A run on a machine that has nothing of it: from its copy, if there is one. Its result."""
    from dipole.data.core.errors import CheckpointError

    resumed = run_to_resume(url, str(output))
    try:
        resumed.configuration()
    except CheckpointError:
        return start_run(config, output, say=silent)
    return resume_run(Path(resumed.on_this_machine()), say=silent)


def forked(work, file):
    """Its number; what it raised or returned is in the file."""
    pid = os.fork()
    if pid == 0:
        sys.stderr = sys.stdout = open(file, "w", buffering=1)  # noqa: SIM115
        code = 1
        try:
            print(work())
            code = 0
        except BaseException as error:
            print(repr(error))
        os._exit(code)
    return pid


def kills(dataset, folder, url, count=5):
    """Begin the run on a fresh machine, kill it while it sends, and begin again."""
    config = configuration(dataset, steps=24, copy_to=url)
    random.seed(0)
    for number in range(count + 1):
        output, said = folder / f"machine{number}", folder / f"said{number}.txt"
        last = number == count

        def work(output=output, last=last):
            if not last:
                wait_after(4)
            return trained(config, output, url).not_copied

        pid = forked(work, said)
        while not last and begun(output) is None and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.02)
        if not last:
            time.sleep(random.uniform(0.1, 1.0))
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != (0 if last else -signal.SIGKILL):
            raise SystemExit(f"start {number} ended with {code}: {said.read_text()}")
        print(begun(output), said.read_text().splitlines()[-1], flush=True)


def wait_after(steps):
    """This process goes so many steps and no further: it is to be killed, and not to end before."""
    from dipole.policy.training.loop import Trainer

    own, first = Trainer._step, []

    def step(trainer, batches):
        first.append(trainer.state.step)
        if trainer.state.step >= first[0] + steps:
            time.sleep(600)
        return own(trainer, batches)

    Trainer._step = step


def begun(output):
    """The newest checkpoint on a machine."""
    done = checkpoints_of(output)
    return done[-1].name if done else None


def ranks(dataset, folder, url):
    """Two ranks train half of a run, and their machine goes; two others go on."""
    config = configuration(dataset, steps=8, copy_to=url, rank_timeout=60)

    def work(output, stops):
        def of_rank(rank):
            os.environ["TORCHELASTIC_RESTART_COUNT"] = "0"
            os.environ["TORCHELASTIC_RUN_ID"] = "mine"
            from dipole.policy.training.loop import Trainer
            from dipole.policy.training.process.group import Group

            own = Trainer._step

            def step(trainer, batches):
                if stops and trainer.state.step == 4:
                    os.kill(os.getpid(), signal.SIGTERM)
                return own(trainer, batches)

            Trainer._step = step
            assert Launch.of().identity == "mine"
            group = Group.current()
            found = group.from_main(lambda: begun_before(output, config))
            if found is not None:
                result = resume_run(Path(found), say=silent)
            else:
                result = start_run(config, output, say=silent)
            return result.begun, result.step, result.not_copied

        return of_rank

    for name, stops in (("first", True), ("second", False)):
        found = ended(in_processes(2, work(folder / name, stops), folder), folder)
        print(*(f"{code} {text}" for code, text in found), sep=" | ", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"kills": kills, "ranks": ranks}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])

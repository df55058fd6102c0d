"""A small run with pictures in which everything draws, and processes that train it together."""

import faulthandler
import gc
import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import distributed

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, TINY_RESNET

from dipole.data import EpisodeWriter
from dipole.policy.training.process.launch import training_group

AUGMENTED = {
    "shift": 2,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.1,
    "cutout": 0.3,
    "cutout_fill": "noise",
    "blur": 0.3,
    "noise": 0.1,
}


def write_pictures(path):
    """A joint and a gripper, the brightness of a camera's pictures."""
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10) as writer:
        for length in (14, 12, 11):
            joints = rng.uniform(0, 1, (length, 2)).astype(np.float32)
            picture = np.tile((255 * joints).astype(np.uint8)[:, :1, None, None], (1, 32, 32, 3))
            writer.add_episode({"joints": joints, "action": joints, "front": picture})
    return path


def configuration(dataset, objective=None, policy=None, **train):
    """What `dipole train` composes, as far as a run needs it."""
    return {
        "task": {
            "name": "arm",
            "dataset": str(dataset),
            "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
            "observation": {
                "front": {"shape": [32, 32, 3], "kind": "image"},
                "joints": {"shape": [2], "kind": "state"},
            },
            "action": {"shape": [2], "kind": "action"},
            "split": {"val_ratio": 0.34, "seed": 0},
        },
        "dataset": None,
        "policy": policy or everything_draws(),
        "objective": objective or {"name": "behaviour_cloning"},
        "train": {
            "steps": 6,
            "batch_size": 6,
            "warmup_steps": 1,
            "learning_rate": 1e-3,
            "device": "cpu",
            "threads": 1,
            "deterministic": True,
            "checkpoint_every": 2,
            "validate_every": 3,
            "log_every": 1,
            "rank_timeout": 60,
            **train,
        },
        "evaluate": {},
    }


def everything_draws():
    """Augmentation, a dropped camera, dropped conditions, prefixes, noise, times; and padding does
    not count."""
    return {
        "encoder": {
            "name": "image",
            "backbone": TINY_RESNET,
            "dim": 6,
            "augment": AUGMENTED,
            "camera_dropout": 0.2,
        },
        "denoiser": SMALL_UNET,
        "guidance": {"dropout": 0.3},
        "head": {
            "name": "diffusion",
            "counts_padding": False,
            "prefix": {"probability": 0.5, "max_length": 3},
        },
    }


def silent(_line):
    pass


@cache
def launcher_store():
    return distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def in_processes(count, work, folder, timeout=60.0, restarts=0):
    """Fork `count` processes that form a group and call work(rank); [exit code, text] of each.

    The text is what `work` returned, or its error. They find each other through a store of this
    process, as with torchrun, which keeps what earlier groups left there.
    """
    import torch.utils.tensorboard  # noqa: F401  here, or every first process would, for seconds

    port = launcher_store().port
    pids = []
    gc.collect()
    gc.freeze()  # a process group that a child collects waits for threads which are not its own
    # The store's thread is at work as soon as a child asks it; what it holds at a fork, the next
    # child would wait for without end. So nobody asks before all are forked.
    waits, all_forked = os.pipe()
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            os.close(all_forked)
            os.read(waits, 1)  # until the parent closes its end
            os.close(waits)
            _child(rank, count, port, work, folder / f"rank{rank}.txt", timeout, restarts)
        pids.append(pid)
    os.close(waits)
    os.close(all_forked)
    gc.unfreeze()
    return pids


def ended(pids, folder, within=240.0):
    """Wait for processes of `in_processes`: what each left.

    Of one that has not ended within so many seconds the stack is what the test fails with.
    """
    until, found = time.monotonic() + within, []
    for rank, pid in enumerate(pids):
        while (status := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
            time.sleep(0.005)
        if status == (0, 0):
            for each in pids[rank:]:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGABRT)  # faulthandler writes where it is
                    os.waitpid(each, 0)
            stacks = "\n".join(path.read_text() for path in sorted(folder.glob("rank*.stack")))
            raise AssertionError(f"rank {rank} has not ended in {within:g} s:\n{stacks}")
        file = folder / f"rank{rank}.txt"
        code = os.waitstatus_to_exitcode(status[1])
        found.append((code, file.read_text() if file.exists() else ""))
    return found


def _child(rank, count, port, work, file, timeout, restarts):
    code = 1
    faulthandler.enable(open(file.with_suffix(".stack"), "w"))  # noqa: SIM115
    try:
        file.unlink(missing_ok=True)
        given = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in given.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        torch.set_num_threads(1)
        with open(os.devnull, "w") as nothing, training_group("cpu", timeout):
            sys.stderr = sys.stdout = nothing
            file.write_text(f"{work(rank)}")
        code = 0
    except BaseException:
        file.write_text(traceback.format_exc())
    finally:
        os._exit(code)


@contextmanager
def changed_when(condition, module, name, change):
    """Replace an attribute while it lasts, where `condition` is true."""
    before = getattr(module, name)
    if condition:
        setattr(module, name, change(before))
    try:
        yield
    finally:
        setattr(module, name, before)

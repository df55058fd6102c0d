"""A training step by several processes, each on a core, with the same batch as by one."""

import itertools
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from dipole.benchmarks.figures.networks import our_policy
from dipole.benchmarks.figures.turns import Work
from dipole.policy.core.threads import Threads, fastest_threads
from dipole.policy.training import BehaviourCloning, TrainConfig, TrainState
from dipole.policy.training.hardware.memory import keep_freed_memory
from dipole.policy.training.hardware.threaded_batch import thread_choices, threaded_batch
from dipole.policy.training.optimization.updates import Updates
from dipole.policy.training.process.group import Group, LostRankError

IDLE = 3600.0  # seconds that the other processes wait for the next turn


def one_process(
    network: str, batch: int, threads: int, steps: int = 1
) -> tuple[Work, dict[str, Any]]:
    """All rows, by one thread or whichever way of using several is fastest."""
    torch.set_num_threads(threads)
    step, policy = _step(network, batch, Group())

    def work(chosen: Threads, repeats: int = 1) -> None:
        with threaded_batch(policy, chosen.batch):
            for _ in range(repeats):
                step()

    choices = [Threads(1)] if threads == 1 else thread_choices(policy, threads)
    chosen, found = fastest_threads(choices, work)
    return lambda: work(chosen, steps), {"threads": found}


def ranks(network: str, batch: int, count: int, steps: int = 1) -> tuple[Work, dict[str, Any]]:
    """This process is the first of `count`; the others make a step whenever it does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for rank in range(1, count):
        words = [network, *map(str, (batch, rank, count, port))]
        subprocess.Popen([sys.executable, "-m", __name__, *words])
    step = _joined(network, batch, 0, count, port)

    def work() -> None:
        for _ in range(steps):
            step()

    return work, {"threads": f"{count} processes"}


def _joined(network: str, batch: int, rank: int, count: int, port: int) -> Callable[[], None]:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count
    )
    return _step(network, batch, Group.of_all(IDLE))[0]


def _step(network: str, batch: int, group: Group) -> tuple[Callable[[], None], Any]:
    """What the trainer does in a step, and the policy."""
    keep_freed_memory()
    torch.manual_seed(0)
    config = TrainConfig(batch_size=batch, device="cpu")
    state = TrainState.new(BehaviourCloning(our_policy(network)), config)
    updates = Updates(state, config, Path(), group)
    batches = itertools.repeat(state.objective.fake_batch(updates.rows))

    def step() -> None:
        updates.make(state.objective, batches, measured=False)
        state.step += 1

    return step, state.policy


def _follow(network: str, batch: str, rank: str, count: str, port: str) -> None:
    """The other processes: until the first one ends."""
    step = _joined(network, int(batch), int(rank), int(count), int(port))
    try:
        while True:
            step()
    except (LostRankError, RuntimeError):
        return


if __name__ == "__main__":
    _follow(*sys.argv[1:])

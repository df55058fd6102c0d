"""What computes an evaluation: threads that infer, processes that simulate."""

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.processors import processors
from dipole.envs.rollout import LocalSlots, Slots
from dipole.envs.rollout.first_look import FirstLook
from dipole.envs.rollout.kept import KeptKeys
from dipole.envs.rollout.resolved import ResolvedEnvironment
from dipole.envs.rollout.workers import WorkerSlots

COSTLY_STEP = 0.002  # seconds of a step, its share of observations included
STARTING = 6.0  # seconds that processes have to save: until they are there, and what they cost
COSTLY_MAKING, SLOTS_PER_WORKER = 0.25, 4
USUAL_STEPS = 200  # of an episode that says no limit


def at_least(smallest: int, **values: int) -> None:
    """Raise ConfigError, naming the value, for one that is too small."""
    for name, value in values.items():
        if value < smallest:
            raise ConfigError(f"{name} is {value}; it must be at least {smallest}")


def inference_threads(policy: Any, wanted: int | None) -> int:
    """Batches inferred for at once. An export's runtime has its own threads, a GPU needs none."""
    import torch

    if wanted is not None:
        at_least(1, threads=wanted)
    on_processor = getattr(policy, "device", None) == torch.device("cpu")
    if not isinstance(policy, torch.nn.Module) or not on_processor:
        return 1
    return wanted or torch.get_num_threads()


@dataclass(frozen=True)
class Asked:
    """What an evaluation was asked to use; None: to be chosen. rows: Of an inference call. keys:
    What is kept of each observation. The others are as `evaluate` takes them."""

    episodes: int
    rows: int
    n_envs: int | None = None
    threads: int = 1
    workers: int | None = 0
    keys: KeptKeys | None = None

    def __post_init__(self) -> None:
        from dipole.policy.execution.executor import check_batch_size

        check_batch_size(self.rows)


@dataclass(frozen=True)
class Computing:
    """What computes an evaluation. policy: For the executor. pool: Threads that call it; None for
    this one. n_slots: Simulators in `slots`. cluster: What metrics.json says of it."""

    policy: Any
    pool: ThreadPoolExecutor | None
    slots: Slots
    n_slots: int
    cluster: dict[str, Any] | None = None

    @property
    def workers(self) -> int:
        return self.slots.workers


@contextmanager
def computing_here(
    policy: Any, resolved: ResolvedEnvironment, look: FirstLook, asked: Asked
) -> Iterator[Computing]:
    """In this process, and others of this machine."""
    from dipole.policy.runtimes.torchscript import without_interpreter

    workers, rows = asked.workers, asked.rows
    workers = chosen_workers(look, asked.episodes) if workers is None else workers
    own = resolved.has_own_process
    n_envs = asked.n_envs or default_slots(look, rows, asked.threads, workers, own)
    n_slots = min(asked.episodes, n_envs)
    workers = min(workers, n_slots)
    with (
        inference_pool(asked.threads, workers) as pool,
        closing(open_slots(policy, resolved, workers, asked.keys)) as slots,
    ):
        yield Computing(without_interpreter(policy), pool, slots, n_slots)


def chosen_workers(look: FirstLook, episodes: int) -> int:
    """Processes that simulate, by what a step took: as many as there are processors where steps are
    costly and enough of them will be made, or none."""
    workers = min(episodes, processors())
    if workers < 2 or look.step_seconds is None or look.step_seconds < COSTLY_STEP:
        return 0
    expected = episodes * (look.most_steps or USUAL_STEPS) * look.step_seconds
    return workers if expected * (1 - 1 / workers) > STARTING else 0


def default_slots(
    look: FirstLook, rows: int, threads: int, workers: int, own_process: bool = False
) -> int:
    """Simulators: as many as inference has rows, and twice that beside workers, so that half of
    them simulate meanwhile. Where each is a process of its own, or where workers make them and that
    takes long, a few for each worker, which keep it busy: calls for fewer rows are the lesser cost.
    """
    if own_process:
        return min(SLOTS_PER_WORKER * max(1, workers), 2 * rows * threads)
    if not workers:
        return rows * threads
    if look.making_seconds > COSTLY_MAKING:
        return SLOTS_PER_WORKER * workers
    return 2 * rows * threads


@contextmanager
def inference_pool(threads: int, workers: int) -> Iterator[ThreadPoolExecutor | None]:
    """The threads that infer; None for this one. Beside workers it never is: whoever infers cannot
    read what workers answer, and a worker that is not read stands still."""
    import torch

    from dipole.policy.core.threads import one_thread_each

    if threads > 1 or not workers:
        with one_thread_each(threads) as pool:
            yield pool
        return
    within = (torch.get_num_threads(),)  # of one operation; a new thread has its own setting
    with ThreadPoolExecutor(1, "infer", torch.set_num_threads, within) as pool:
        yield pool


def open_slots(
    policy: Any, resolved: ResolvedEnvironment, workers: int, keys: KeptKeys | None = None
) -> Slots:
    """Simulators in this process, or in workers. keys: What is kept of each observation."""
    n_obs_steps = policy.window.n_obs_steps
    if not workers:
        return LocalSlots(resolved.make, n_obs_steps, resolved.interface, keys)
    _warn_of_spinning(policy)
    timeout = None if resolved.spec is None else resolved.spec.timeout
    return WorkerSlots(resolved.make, n_obs_steps, workers, resolved.interface, keys, timeout)


def _warn_of_spinning(policy: Any) -> None:
    """OpenMP threads spin at barriers by default; beside busy workers that costs tenfold."""
    import torch

    on_cpu = torch.device(getattr(policy, "device", "cpu")).type == "cpu"
    passive = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if on_cpu and not passive and torch.get_num_threads() > 1:
        warnings.warn(
            "simulator processes beside multi-threaded inference: set OMP_WAIT_POLICY=PASSIVE "
            "before Python starts (or OMP_NUM_THREADS=1), or inference may be ten times slower",
            stacklevel=4,
        )

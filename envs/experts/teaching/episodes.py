"""Episodes in which policies act, several side by side, each labelled when it is over.

    simulators   step until their chunk is executed, one after the other
    policies     draw the next chunks of all simulators in one call

An image policy's chunk costs a fifth of what it costs alone. What comes of a seed does not depend
on what runs beside it.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from dipole.data.core.errors import DipoleError
from dipole.data.recording.record import Demonstration, Observation, Steps, episode_steps
from dipole.envs.errors import DivergedError, errors_naming
from dipole.envs.experts.action_noise import Disturbance
from dipole.envs.experts.processes import ordered
from dipole.envs.experts.task_environment import TaskEnvironment
from dipole.envs.registry import make_env
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.policy.execution.executor import ROWS

if TYPE_CHECKING:
    from dipole.envs.experts.demonstrate import DemonstrationSpec

Result = Demonstration | DipoleError  # of a seed: what came of it, or what stopped it


@dataclass
class _Running:
    """The episode of a row."""

    seed: int
    steps: Steps


class TaughtEpisodes:
    """Makes episodes in simulators that are kept from one to the next.

    spec: With its teaching. n_envs: Simulators. render: Whether they will be filmed, and so are not
    labelled.
    """

    def __init__(self, spec: "DemonstrationSpec", n_envs: int = 1, render: bool = False) -> None:
        teaching = spec.teaching
        assert teaching is not None
        self.spec, self.n_envs = spec, n_envs
        self.keys = spec.keys
        entries = [teaching.entries(name, spec.environment) for name in teaching.policies]
        asked = dict.fromkeys([*self.keys.asked, *(each for one in entries for each in one)])
        self._make: Callable[[], Any] = functools.partial(
            make_env, spec.environment, observation=tuple(asked), render=render
        )
        self._environments: dict[int, TaskEnvironment] = {}
        self._actors = teaching.actors(spec.environment, n_envs)
        self._labeller = None if render else teaching.labeller()
        teaching.check_actions(spec.environment, self.environment.environment)

    @property
    def environment(self) -> TaskEnvironment:
        """The first simulator, in which a single episode is made."""
        return self._environment(0)

    def close(self) -> None:
        """Close the simulators."""
        for each in self._environments.values():
            each.environment.close()

    def __call__(self, seed: int) -> Demonstration:
        """The episode of one seed. Raises RolloutError, ConfigError or DataError, naming it."""
        (result,) = self.made([seed])
        if isinstance(result, DipoleError):
            raise result
        return result

    def made(self, seeds: Iterable[int]) -> Iterator[Result]:
        """The results of the seeds, which may have no end, in their order."""
        left, order = iter(seeds), deque[int]()
        free, running = list(range(self.n_envs))[::-1], dict[int, _Running]()
        done: dict[int, Result] = {}
        while True:
            while free and len(order) < 2 * self.n_envs:
                seed = next(left, None)
                if seed is None:
                    break
                order.append(seed)
                self._proceed(free.pop(), seed, None, running, done, free)
            while order and order[0] in done:
                yield done.pop(order.popleft())
            if not order:
                return
            for row, actions in self._actors.plan(list(running)).items():
                self._proceed(row, running[row].seed, actions, running, done, free)

    def _proceed(
        self,
        row: int,
        seed: int,
        actions: np.ndarray | None,
        running: dict[int, _Running],
        done: dict[int, Result],
        free: list[int],
    ) -> None:
        """Begin the row's episode, or execute actions [Ta, A] in it; perhaps it is over then."""
        result: Result | None
        try:
            with errors_naming(f"demonstration of seed {seed}"):
                result = self._advanced(row, seed, actions, running)
        except DipoleError as error:
            result = error
        if result is None:
            return
        done[seed] = result
        running.pop(row, None)
        free.append(row)

    def _advanced(
        self, row: int, seed: int, actions: np.ndarray | None, running: dict[int, _Running]
    ) -> Demonstration | None:
        """What came of the episode where it is over, or else None."""
        if actions is not None and not np.isfinite(actions).all():
            return Demonstration.not_finite(seed, "the acting policy's actions are not finite")
        try:
            if actions is None:
                running[row] = self._begun(row, seed)
                return None
            made = self._executed(row, running[row].steps, actions)
        except DivergedError as error:
            return Demonstration.not_finite(seed, str(error))
        return None if made is None else self._labelled(made)

    def _begun(self, row: int, seed: int) -> _Running:
        environment, noise = self._environment(row), self.spec.disturbance
        disturb = None if noise is None else Disturbance(seed, noise, *environment.bounds)
        steps = episode_steps(environment, seed, disturb=disturb, read=self.keys.read)
        self._actors.begin(next(steps), seed, row)
        return _Running(seed, steps)

    def _executed(self, row: int, steps: Steps, actions: np.ndarray) -> Demonstration | None:
        """What came of the episode where it is over, or else None."""
        for action in actions:
            try:
                observation: Observation = steps.send(action)
            except StopIteration as ended:
                made: Demonstration = ended.value
                return made
            self._actors.observe(observation, row)
        return None

    def _labelled(self, made: Demonstration) -> Demonstration:
        if self._labeller is None:
            return made
        labels = self._labeller(made.frames, made.words, made.seed)
        return replace(made, frames={**made.frames, **labels})

    def _environment(self, row: int) -> TaskEnvironment:
        if row not in self._environments:
            finite = self.keys.finite | self._actors.finite
            self._environments[row] = TaskEnvironment(self._make, self.spec.environment, finite)
        return self._environments[row]


class _Groups:
    """In a worker: all results of a group of seeds."""

    def __init__(self, spec: "DemonstrationSpec", n_envs: int) -> None:
        self._episodes = TaughtEpisodes(spec, n_envs)

    def __call__(self, seeds: range) -> list[Result]:
        return list(self._episodes.made(seeds))

    def close(self) -> None:
        self._episodes.close()


def taught(
    spec: "DemonstrationSpec",
    first_seed: int,
    workers: int = 0,
    n_envs: int | None = None,
    cluster: ClusterSettings | None = None,
    wanted: int | None = None,
) -> Iterator[Demonstration]:
    """Endlessly, in the order of the seeds, however many processes and simulators make them.

    n_envs: Simulators of each process; None: as many as a policy's call has rows. cluster, wanted:
    See `demonstrations`. Raises the error of a seed when its turn comes.
    """
    size = ROWS if n_envs is None else n_envs
    most = None if wanted is None else -(-wanted // size)
    with ExitStack() as stack:
        if workers < 1 and cluster is None:
            here = TaughtEpisodes(spec, size)
            stack.callback(here.close)
            results = here.made(count(first_seed))
        else:
            groups: Any = (range(first, first + size) for first in count(first_seed, size))
            make = functools.partial(_Groups, spec, size)
            name = "episodes of the seeds in"
            each = stack.enter_context(ordered(make, groups, workers, name, cluster, most))
            results = (result for group in each for result in group)
        for result in results:
            if isinstance(result, DipoleError):
                raise result
            yield result

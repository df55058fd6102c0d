"""Demonstrations of an expert, one per seed, in worker processes or without."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from dipole.data.loading.features import Feature, Features
from dipole.data.recording.record import ACTION, EXECUTED, Demonstration, record_episode
from dipole.data.store.labels import TEACHER_CHUNK
from dipole.envs.contract import EnvSpec
from dipole.envs.errors import DivergedError, errors_naming
from dipole.envs.experts import find_expert
from dipole.envs.experts.action_noise import Disturbance, DisturbanceSpec
from dipole.envs.experts.checked import CheckedExpert
from dipole.envs.experts.intervention import Takeover, TakeoverSpec
from dipole.envs.experts.processes import ordered
from dipole.envs.experts.recorded import RecordedKeys
from dipole.envs.experts.task_environment import TaskEnvironment
from dipole.envs.experts.teaching.episodes import TaughtEpisodes, taught
from dipole.envs.experts.teaching.spec import TeachingSpec
from dipole.envs.interface import LiveFeature, live_targets
from dipole.envs.registry import check_environment, make_env, stored_names
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.policy.execution.executor import NotFiniteError


@dataclass(frozen=True)
class DemonstrationSpec:
    """Who shows what, where.

    environment: A task's whole `environment`.
    expert: Its name; None: whichever knows the environment.
    features: What the task's policies see: what it is made of is recorded, beside what the expert
        looks at. None: only that.
    disturbance: Of executed actions; None: none.
    takeover: The policy that acts first; None: nobody.
    teaching: A teacher and whoever acts in the expert's place; None: the expert acts.
    targets: What policies are to tell from pictures and are not shown, by name: what it is made of
        is recorded too.
    """

    environment: EnvSpec
    expert: str | None = None
    features: Features | None = None
    disturbance: DisturbanceSpec | None = None
    takeover: TakeoverSpec | None = None
    teaching: TeachingSpec | None = None
    targets: Mapping[str, Feature] = field(default_factory=dict)

    @property
    def keys(self) -> RecordedKeys:
        """What is recorded. Raises ConfigError where no expert knows the environment."""
        return RecordedKeys.of(self.features, self.environment, self.looked_at, self.live_targets)

    @property
    def live_targets(self) -> tuple[LiveFeature, ...]:
        """The targets that are made of what is observed."""
        disturbed = () if self.disturbance is None else (EXECUTED,)
        labelled = () if self.teaching is None else (TEACHER_CHUNK,)
        names = stored_names(self.environment)
        return live_targets(self.targets, names, (ACTION, *disturbed, *labelled))

    @property
    def looked_at(self) -> tuple[str, ...]:
        """The entries of the simulator's observation that the expert or the teacher looks at.

        Raises ConfigError where no expert knows the environment."""
        if self.teaching is not None:
            return self.teaching.entries("teacher", self.environment)
        return find_expert(self.expert, self.environment).observation


class Demonstrations:
    """Makes demonstrations in one environment, which is kept from one to the next.

    spec: Without teaching; see `dipole.envs.experts.teaching.episodes` for that.
    render: Whether they will be filmed.
    """

    def __init__(self, spec: DemonstrationSpec, render: bool = False) -> None:
        expert = find_expert(spec.expert, spec.environment)
        self.spec = spec
        self.keys = spec.keys
        takeover = spec.takeover
        self._takeover = None if takeover is None else Takeover(takeover, spec.environment)
        looked_at = [*self.keys.asked, *expert.observation]
        looked_at += self._takeover.policy.interface.entries if self._takeover else ()
        make = functools.partial(
            make_env,
            expert.demonstrating_in(spec.environment),
            observation=tuple(dict.fromkeys(looked_at)),
            render=render,
        )
        finite = self.keys.finite | (
            self._takeover.policy.interface.finite if self._takeover else {}
        )
        self.environment = TaskEnvironment(make, spec.environment, finite, self._move)
        made = self.environment.environment
        self._demonstrator = CheckedExpert.of(expert, made, spec.features)
        self._expert = expert

    def _move(self, environment: Any) -> None:
        self._demonstrator.move_to(self._expert, environment)

    def close(self) -> None:
        """Close the simulator."""
        self.environment.environment.close()

    def __call__(self, seed: int) -> Demonstration:
        """The expert's episode from a seed's start, or from where a policy got to from there.

        A function of the specification and the seed, on one machine. Has no frames where the policy
        ended it, nor where something became NaN or infinite. Raises RolloutError, or ConfigError,
        naming the seed.
        """
        with errors_naming(f"demonstration of seed {seed}"):
            try:
                return self._recorded(seed)
            except (DivergedError, NotFiniteError) as error:
                return Demonstration.not_finite(seed, str(error))

    def _recorded(self, seed: int) -> Demonstration:
        environment, spec, policy = self.environment, self.spec.disturbance, self._takeover
        return record_episode(
            environment,
            self._demonstrator,
            seed,
            None if spec is None else Disturbance(seed, spec, *environment.bounds),
            None if policy is None else policy.begin(seed),
            self.keys.read,
        )


def maker(spec: DemonstrationSpec, render: bool = False) -> Demonstrations | TaughtEpisodes:
    """What makes one episode after another, of a seed each."""
    return (
        Demonstrations(spec, render) if spec.teaching is None else TaughtEpisodes(spec, 1, render)
    )


def demonstrate(
    environment: EnvSpec | str,
    seed: int,
    disturbance: DisturbanceSpec | None = None,
    takeover: TakeoverSpec | None = None,
    *,
    features: Features | None = None,
    expert: str | None = None,
) -> Demonstration:
    """One episode; see `DemonstrationSpec` and `Demonstrations`."""
    where = EnvSpec.read(environment)
    make = Demonstrations(DemonstrationSpec(where, expert, features, disturbance, takeover))
    try:
        return make(seed)
    finally:
        make.close()


def demonstrations(
    spec: DemonstrationSpec,
    first_seed: int,
    workers: int = 0,
    n_envs: int | None = None,
    cluster: ClusterSettings | None = None,
    wanted: int | None = None,
) -> Iterator[Demonstration]:
    """Endlessly, in the order of the seeds, however many processes make them.

    n_envs: Simulators of each process in which policies act; None: a good number.
    cluster: Its actors make them, in place of workers.
    wanted: How many are to be kept: a cluster starts no more actors than that; None: any number.
    Raises RolloutError where an expert or its simulator raises, or its process ends.
    """
    spec.looked_at  # noqa: B018  what is unknown is answered here, not in a worker
    check_environment(spec.environment)
    if spec.teaching is not None:
        yield from taught(spec, first_seed, workers, n_envs, cluster, wanted)
        return
    if workers < 1 and cluster is None:
        here = Demonstrations(spec)
        try:
            yield from map(here, count(first_seed))
        finally:
            here.close()
        return
    make = functools.partial(Demonstrations, spec)
    with ordered(make, count(first_seed), workers, cluster=cluster, most=wanted) as made:
        yield from made

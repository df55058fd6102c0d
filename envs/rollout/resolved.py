"""An environment of an evaluation, found: what makes it, how it is observed, how it is judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface, LiveFeature
from dipole.envs.registry import environment_version, is_told, make_env, score_name, stored_names
from dipole.envs.rollout.stepping import Environment, EnvironmentFactory


@dataclass(frozen=True)
class ResolvedEnvironment:
    """Where a policy is evaluated: what makes the simulator, and how it is observed and judged.

    settings: What the task says of it beside its name and options, for the results.
    fps, score: What the task or family says; None if nothing.
    given_version: Of what is not registered; spec: of what is.
    targets: What is kept of an episode beside what the policy sees.
    """

    name: str
    make: EnvironmentFactory
    interface: Interface
    options: dict[str, Any]
    settings: dict[str, Any]
    fps: float | None = None
    score: str | None = None
    given_version: str | None = None
    spec: EnvSpec | None = None
    targets: tuple[LiveFeature, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """{stored key: entry of the observation}, where they differ."""
        return {} if self.spec is None else stored_names(self.spec)

    def with_targets(self, targets: tuple[LiveFeature, ...]) -> "ResolvedEnvironment":
        """One that looks at what they are made of too."""
        make: Any = self.make
        told = getattr(make, "keywords", {}).get("observation")
        if told is None:
            return replace(self, targets=targets)
        looked_at = tuple(dict.fromkeys([*told, *(each.entry for each in targets)]))
        return replace(self, targets=targets, make=partial(make, observation=looked_at))

    @property
    def has_own_process(self) -> bool:
        """Whether each simulator is a process of its own, in another interpreter."""
        return self.spec is not None and self.spec.python is not None

    @property
    def version(self) -> dict[str, str]:
        """{"id", "version"} for the results; complete once it was made."""
        if self.given_version is None:
            return environment_version(self.spec or self.name)
        return {"id": self.name, "version": self.given_version}

    @classmethod
    def of(
        cls, environment: Any, policy: Any, options: Mapping[str, Any], *, render: bool = False
    ) -> "ResolvedEnvironment":
        """environment, options: as `evaluate` takes them. render: whether it will be drawn.

        Raises ConfigError for an unknown environment.
        """
        optional = tuple(getattr(policy, "optional", ()))
        if callable(environment):
            return cls._made_by(environment, policy, options, optional)
        spec = EnvSpec.read(environment)
        spec = replace(spec, options={**spec.options, **options})
        interface = Interface.of(policy.features, spec, stored_names(spec), optional)
        return cls(
            spec.id,
            partial(make_env, spec, observation=interface.entries, render=render),
            interface,
            dict(spec.options),
            {k: v for k, v in spec.to_dict().items() if k not in ("name", "options")},
            spec.fps,
            score_name(spec),
            spec=spec,
        )

    @classmethod
    def _made_by(
        cls,
        build: Callable[..., Environment],
        policy: Any,
        options: Mapping[str, Any],
        optional: Any,
    ) -> "ResolvedEnvironment":
        name = getattr(build, "__qualname__", repr(build))
        version = str(getattr(build, "version", "unknown"))
        interface = Interface.of(policy.features, EnvSpec(name), {}, optional)
        make = partial(build, **options)
        if is_told(build):
            make = partial(make, observation=interface.entries)
        return cls(name, make, interface, dict(options), {}, given_version=version)

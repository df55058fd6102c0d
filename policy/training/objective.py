"""What a run minimises: behaviour cloning, or an objective of your own.

    objective ─┬─ policy           averaged, evaluated, exported
               ├─ discriminator    a helper: trained with it, saved beside it
               └─ teacher          `Frozen`: named by its file's hash, not saved

One step makes each of the updates that `updates(step)` names, one after another. An update has an
optimiser of its own, of the parameters that `parameter_groups` gives it, and minimises what
`forward` returns for its name; gradients reach no other parameters.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import nn

from dipole.data import WindowSource
from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import OBJECTIVES, build, named
from dipole.policy.heads.base import Loss
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.config import EMAConfig

DEFAULT = {"name": "behaviour_cloning"}
PREFIX = "policy."  # of the policy's parameters, which are named without it


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters of an objective that one update trains alike.

    parameters: Those that do not require a gradient are left out.
    learning_rate_ratio: Of their learning rate to train.learning_rate.
    weight_decay: Of AdamW; None: train.weight_decay.

    `train.learning_rates` and `train.weight_decays` win over both, where they name a parameter.
    """

    parameters: Sequence[nn.Parameter]
    learning_rate_ratio: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        if not self.learning_rate_ratio > 0:
            raise ConfigError(
                f"a parameter group's learning_rate_ratio is {self.learning_rate_ratio}: it must "
                "be positive"
            )


@dataclass(frozen=True)
class Average:
    """A module of which a moving average is kept. config: None: train.ema."""

    module: nn.Module
    config: EMAConfig | None = None


class Objective(nn.Module):
    """Base class: the policy, its helpers (attributes), and how a step trains them.

    policy: What is averaged, evaluated and exported.
    total_steps: Of the run that trains it; known once the run begins.
    begins_with_helpers: Whether train.init takes tensors of another run's helpers too.
    trains_policy: Whether chunks are learned; otherwise they are not worth evaluating.
    not_sharded_because: Why train.sharding=full cannot be; None: it can. It takes one update, and
        weights that nothing reads or changes outside of `forward`, averages included.
    """

    begins_with_helpers: bool = True
    trains_policy: bool = True
    not_sharded_because: ClassVar[str | None] = (
        "its class does not say that only its forward reads weights (not_sharded_because = None)"
    )

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.total_steps = 0
        self._averaged: dict[str, nn.Module] = {}

    @classmethod
    def wanted_targets(cls, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What batches shall hold beside what the policy sees and does, by the objective's options:
        {name: table}, see `dipole.data.loading.targets`; None: all targets of the task. An
        objective that wants some has a parameter `windows`: what they are drawn from."""
        return {}

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        """What the update minimises. step: Updates that were made before it, from 0."""
        raise NotImplementedError

    def parameter_groups(self) -> Mapping[str, list[ParameterGroup]]:
        """By update. The first update's loss is the one that is validated and that runs are
        compared by."""
        return {"policy": [ParameterGroup(list(self.policy.parameters()))]}

    def updates(self, step: int) -> Sequence[str]:
        """Names of the updates that step `step` makes, in order; at least one."""
        return self._all_updates

    def begin_step(self, step: int) -> None:
        """Called before the updates of step `step`, and before nothing else of it: where a method
        enters its next stage. A run that is resumed at this step makes this call again."""

    def averages(self) -> Mapping[str, Average]:
        """Modules whose moving averages are kept, by name; "policy" is what is evaluated."""
        return {"policy": Average(self.policy)}

    def fake_batch(self, batch_size: int = 2) -> dict[str, Any]:
        """A random training batch, with all that `forward` takes."""
        return self.policy.fake_batch(batch_size)

    def average(self, name: str = "policy") -> nn.Module:
        """The moving average of a module while the objective is trained: a target network."""
        return self._averaged[name]

    def attach_averages(self, models: Mapping[str, nn.Module]) -> None:
        """What `average` returns from now on; these modules do not become part of this one."""
        self._averaged = dict(models)

    @contextmanager
    def using_policy(self, policy: nn.Module) -> Iterator[None]:
        """While it lasts, `policy` stands in for the one that is trained."""
        own = self.policy
        self.policy = policy  # type: ignore[assignment]
        try:
            yield
        finally:
            self.policy = own

    @cached_property
    def _all_updates(self) -> tuple[str, ...]:
        return tuple(self.parameter_groups())


@OBJECTIVES.add("behaviour_cloning")
class BehaviourCloning(Objective):
    """The policy's own loss on demonstrations."""

    not_sharded_because = None

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        loss: Loss = self.policy(batch)
        return loss


def wanted_targets(config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What the batches of a run hold for its objective; see `Objective.wanted_targets`."""
    config = config or DEFAULT
    component = named(OBJECTIVES, config)
    asks = getattr(component, "wanted_targets", None)
    found: Mapping[str, Any] | None = {} if asks is None else asks(config)
    return found


def build_objective(
    config: Mapping[str, Any] | None, policy: Policy, windows: WindowSource | None = None
) -> Objective:
    """The objective that a run's configuration names; one without is behaviour cloning.

    windows: Of the training episodes, for objectives with a parameter of that name.
    """
    config = config or DEFAULT
    component = named(OBJECTIVES, config)
    given: dict[str, Any] = {"policy": policy}
    if "windows" in inspect.signature(component).parameters:
        given["windows"] = windows
    objective = build(OBJECTIVES, config, **given)
    if not isinstance(objective, Objective):
        raise ConfigError(f"objective {config['name']!r} is no Objective")
    return objective


def short_name(name: str) -> str:
    """Of an objective's parameter: "head.denoiser.final.weight", "discriminator.0.weight"."""
    return name.removeprefix(PREFIX)

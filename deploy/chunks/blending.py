"""What becomes of the old plan where a new chunk arrives.

    position   10 11 12 13 14 15 16         counted in actions that the robot consumed
    old plan   o  o  o  o
    new chunk  n  n  n  n  n  n  n           both begin at the next action

`switch` sends n from the first; `cross_fade` goes from o to n over a few actions; `ensemble`
averages all that was ever predicted for a position (Zhao et al., 2023, section IV). `rtc` switches
too, but asks for a chunk that goes on as the old plan does (Black et al., 2025, arXiv 2506.07339);
`trained_prefix` does so of a policy that learned it in training (Black et al., 2025, 2512.05964).
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import fitted
from dipole.data.core.registry import Registry
from dipole.data.loading.window_spec import WindowSpec
from dipole.deploy.chunks.prefix import known_prefix, whole_prefix
from dipole.deploy.robots.action_math import interpolate, weighted_mean
from dipole.deploy.robots.groups import ActionSpec
from dipole.deploy.types import Floats, KnownActions, PolicySpec
from dipole.policy.diffusion.guidance import GIVEN, InpaintingGuidance, prefix_weights

MOST_DECAY = 100.0  # e^-100 of the weight is less than a float's last bit
FORMER_NAMES = {
    "form": "method",
    "clip": "max_weight",
    "data_scale": "data_std",
}  # of rtc's options


class Merger(ABC):
    """Joins plans. What it returns is as long as the new chunk.

    max_delay: The longest delay, in actions, for which it can do what it is for; None: any.
    """

    max_delay: int | None = None

    def use_with(self, policy: PolicySpec) -> None:  # noqa: B027  most work with any
        """Called once, before anything moves. Raises ConfigError for a policy that it cannot work
        with."""

    def reset(self) -> None:  # noqa: B027  most remember nothing
        """Forget all earlier chunks."""

    def known(
        self, _past: Sequence[Floats], _left: Sequence[Floats], _delay: int, _window: WindowSpec
    ) -> KnownActions:
        """What a chunk that is asked for now should go on from: see prefix.py; {} for nothing.

        past: the actions [A] that ran last; left: those that come, the first `delay` of which will
        have run when the chunk arrives.
        """
        return {}

    @abstractmethod
    def merge(self, old: list[Floats], new: Floats, position: int) -> Floats:
        """The plan [n, A] from `position` on: old holds what was left of the last plan, each [A];
        new [n, A] is the part of the new chunk that is not past."""


MERGERS: Registry[Callable[..., Merger]] = Registry("merger")


def make_merger(name: str, spec: ActionSpec, /, **options: Any) -> Merger:
    """A merger by name.

    Raises ConfigError for an unknown name or option, and for a value of another type than the
    merger declares: at the first seam it would be a fault in motion.
    """
    build = MERGERS[name]
    hints = _hints(build)
    for key, value in options.items():
        fitted(value, hints.get(key, Any), f"merger_options.{key}")
    try:
        return build(spec, **options)
    except TypeError as error:
        raise ConfigError(f"merger {name!r} does not take these options: {error}") from None


def _hints(build: Callable[..., Merger]) -> dict[str, Any]:
    """The types of a merger's options, as far as it declares them."""
    made: Any = build
    try:
        return get_type_hints(made.__init__ if inspect.isclass(build) else made)
    except (NameError, TypeError):  # names that only a type checker imports; no function
        return {}


@MERGERS.add("switch")
class Switch(Merger):
    """The new chunk at once."""

    def __init__(self, _spec: ActionSpec) -> None:
        pass

    def merge(self, _old: list[Floats], new: Floats, _position: int) -> Floats:
        return new


@MERGERS.add("cross_fade")
class CrossFade(Merger):
    """From the old plan to the new over `steps` actions: with 3, by 1/4, 2/4 and 3/4 new."""

    def __init__(self, spec: ActionSpec, steps: int = 4) -> None:
        if steps < 1:
            raise ConfigError(f"cross_fade steps is {steps}; it must be at least 1")
        self._spec, self._steps = spec, steps

    def merge(self, old: list[Floats], new: Floats, _position: int) -> Floats:
        steps = min(self._steps, len(old), len(new))
        faded = [
            interpolate(old[i], new[i], (i + 1) / (steps + 1), self._spec) for i in range(steps)
        ]
        return np.concatenate([np.reshape(faded, (steps, new.shape[1])), new[steps:]])


@MERGERS.add("ensemble")
class Ensemble(Merger):
    """The mean of all predictions for a position, weighted exp(-decay i), i = 0 for the oldest.

    decay 0.01 is the authors' (they ask for a chunk at every action); a negative one trusts the
    newest more. It lies between -MOST_DECAY and MOST_DECAY.
    """

    def __init__(self, spec: ActionSpec, decay: float = 0.01) -> None:
        if not abs(decay) <= MOST_DECAY:
            raise ConfigError(
                f"ensemble decay is {decay}; it must be a number from {-MOST_DECAY:g} to "
                f"{MOST_DECAY:g}: beyond, one prediction has all of the weight"
            )
        self._spec, self._decay = spec, decay
        self.reset()

    def reset(self) -> None:
        self._chunks: list[tuple[int, Floats]] = []  # first position, actions; oldest first

    def merge(self, _old: list[Floats], new: Floats, position: int) -> Floats:
        self._chunks = [(p, c) for p, c in self._chunks if p + len(c) > position]
        self._chunks.append((position, new))
        return np.stack([self._mean(position + i) for i in range(len(new))])

    def _mean(self, position: int) -> Floats:
        seen = [c[position - p] for p, c in self._chunks if 0 <= position - p < len(c)]
        powers = -self._decay * np.arange(len(seen))
        weights = np.exp(powers - powers.max())  # the largest is 1, however many there are
        return weighted_mean(np.stack(seen), weights, self._spec)


@MERGERS.add("rtc")
class RealTimeChunking(Switch):
    """The new chunk at once, drawn so that it goes on as the old plan does.

    method, max_weight, data_std: see InpaintingGuidance, by their former names form, clip and
    data_scale too; decay: how the weight of the old plan falls after what
    will have run, see prefix_weights; keep: how many of its actions guide at all (default: all).
    """

    def __init__(
        self,
        spec: ActionSpec,
        method: str = "jacobian",
        max_weight: float | None = 5.0,
        data_std: float = 1.0,
        decay: str = "exponential",
        keep: int | None = None,
        **former: Any,
    ) -> None:
        super().__init__(spec)
        settings = {"method": method, "max_weight": max_weight, "data_std": data_std}
        self._guidance = InpaintingGuidance(**(settings | _renamed(former)))
        if self._guidance.method in ("prefix", GIVEN):
            raise ConfigError(
                f"rtc has no method {self._guidance.method}: it is for policies that were trained "
                "with known actions, as merger trained_prefix asks of them"
            )
        prefix_weights(0, 1, 1, decay)  # refuse now what would be refused at the first seam
        if keep is not None and keep < 1:
            raise ConfigError(f"rtc keep is {keep}; at least one action has to be kept")
        self._decay, self._keep = decay, keep

    def use_with(self, policy: PolicySpec) -> None:
        if not policy.inpaints:
            raise ConfigError(
                "merger 'rtc' needs a policy that takes known parts of a chunk: a diffusion "
                "policy without policy.known, run from its checkpoint and not from an export"
            )

    def known(
        self, past: Sequence[Floats], left: Sequence[Floats], delay: int, window: WindowSpec
    ) -> KnownActions:
        return known_prefix(
            past,
            left,
            window,
            delay=delay,
            keep=self._keep,
            decay=self._decay,
            guidance=self._guidance,
        )


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    """Settings of guidance by their former names. Raises TypeError for others."""
    for name in options:
        if name not in FORMER_NAMES:
            raise TypeError(f"unexpected option {name!r}")
    return {FORMER_NAMES[name]: value for name, value in options.items()}


@MERGERS.add("trained_prefix")
class TrainedPrefix(Switch):
    """The new chunk at once, which begins with the actions that ran while it was computed.

    Only for a policy that was trained so (`policy.head.prefix`). With a delay that is longer than
    its longest prefix, the chunk goes on from as much as that.
    """

    def __init__(self, spec: ActionSpec) -> None:
        super().__init__(spec)
        self.max_delay = 0

    def use_with(self, policy: PolicySpec) -> None:
        if not policy.max_prefix:
            raise ConfigError(
                "merger 'trained_prefix' needs a policy that was trained to go on from known "
                "actions, run from its checkpoint and not from an export: train with "
                "policy.head.prefix.probability=0.5, or choose merger rtc"
            )
        self.max_delay = policy.max_prefix - (policy.window.n_obs_steps - 1)
        if self.max_delay < 1:
            raise ConfigError(
                f"the policy was trained with prefixes of at most {policy.max_prefix} actions, "
                f"which its {policy.window.n_obs_steps} observations take up: train with a larger "
                "policy.head.prefix.max_length"
            )

    def known(
        self, past: Sequence[Floats], left: Sequence[Floats], delay: int, window: WindowSpec
    ) -> KnownActions:
        assert self.max_delay is not None
        return whole_prefix(past, left, window, min(delay, self.max_delay))

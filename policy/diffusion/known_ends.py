"""Chunks whose ends are known from what is observed: plans from here to there.

Diffuser (Janner et al., 2022, arXiv 2205.09991) draws a trajectory of which the first state is the
present one and the last state the goal, as an image is drawn around a part that is given. Where
actions are places, and some observations are places too, a chunk is such a plan:

    action      0         1      2      3    ...    H - 1
    x           position  noisy  noisy  noisy       goal
    in training clean     noisy  noisy  noisy       clean     and the loss is of what lies between
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest
from dipole.data.core.units import same_units, units_text
from dipole.data.transforms.representation import DELTA
from dipole.policy.diffusion.guidance import GIVEN, InpaintingGuidance
from dipole.policy.diffusion.known import KnownChunk

METHODS = (GIVEN, "replace")


@dataclass(frozen=True)
class KnownEnds:
    """Which observations a chunk begins and ends with: `policy.known` of a configuration.

    first: The observation whose To frames are the first To actions of the chunk: action To - 1,
        that of the present, is then where the robot is now. None: they are drawn as others.
    last: The observation that is the last action, H - 1, by its newest frame. None: likewise.
    method: "given": the network is given these actions clean, and learns to: those of a window of
        demonstrations, whatever it ends with, so that any place that was passed is a goal that was
        reached. "replace": they are set to their values with noise in each step (Lugmayr et al.,
        2022), of a network that learned without them.
    """

    first: str | None = None
    last: str | None = None
    method: str = GIVEN

    def __post_init__(self) -> None:
        if self.first is None and self.last is None:
            raise ConfigError(
                "policy.known names no observation: give first, last or both, or set policy.known "
                "to null"
            )
        if self.method not in METHODS:
            raise ConfigError(
                f"policy.known.method is {self.method!r}{nearest(self.method, METHODS) or ';'} "
                f"known: {', '.join(METHODS)}"
            )

    @property
    def is_trained(self) -> bool:
        """Whether training gives these actions, too."""
        return self.method == GIVEN

    def check(self, features: Features, window: WindowSpec) -> None:
        """Raise ConfigError where an observation is no action: of another shape, units or names."""
        for end, name in (("first", self.first), ("last", self.last)):
            if name is None:
                continue
            if name not in features.observation:
                raise ConfigError(
                    f"policy.known.{end} is {name!r}{nearest(name, features.observation) or ';'} "
                    f"the task observes {', '.join(features.observation)}"
                )
            _check_same(f"policy.known.{end}, {name!r},", features.observation[name], features)
        represent = features.action.represent
        if self.last is not None and represent is not None and represent.to == DELTA:
            raise ConfigError(
                "policy.known.last ends chunks somewhere, and actions that are deltas cannot say "
                "where: set action.represent.to to relative"
            )
        if bool(self.frames(window).all()):
            raise ConfigError(
                f"policy.known leaves nothing of a chunk of {window.horizon} actions to draw: "
                "lengthen the horizon"
            )

    def frames(self, window: WindowSpec) -> Tensor:
        """Which actions of a chunk are known, bool [H]."""
        known = torch.zeros(window.horizon, dtype=torch.bool)
        if self.first is not None:
            known[: window.n_obs_steps] = True
        if self.last is not None:
            known[-1] = True
        return known

    def chunk(self, observation: Mapping[str, Any], window: WindowSpec) -> KnownChunk:
        """What an observation {name: [B, To, A]} says of the chunk, in the robot's numbers."""
        ends = [
            torch.as_tensor(observation[name], dtype=torch.float32)
            for name in (self.first, self.last)
            if name is not None
        ]
        rows, _, numbers = ends[0].shape
        values = torch.zeros(rows, window.horizon, numbers, device=ends[0].device)
        if self.first is not None:
            values[:, : window.n_obs_steps] = ends[0]
        if self.last is not None:
            values[:, -1] = ends[-1][:, -1]
        mask = self.frames(window).to(values.device)[:, None].expand_as(values)
        return KnownChunk(values, mask, InpaintingGuidance(self.method))


def known_ends(
    known: Mapping[str, Any] | None,
    features: Features,
    window: WindowSpec,
    head: str,
    supports: Collection[str],
) -> KnownEnds | None:
    """What `policy.known` of a configuration says, checked.

    head, supports: The name of the policy's head, and what may be asked of it.
    Raises ConfigError for observations that are no actions, and a head that cannot know them.
    """
    if known is None:
        return None
    ends = from_mapping(KnownEnds, known, "policy.known")
    ends.check(features, window)
    if (GIVEN if ends.is_trained else "known") not in supports:
        raise ConfigError(
            f"policy.known is set, and the policy's head {head!r} draws no chunks around known "
            "actions: choose policy/head=diffusion"
        )
    return ends


def _check_same(what: str, feature: Feature, features: Features) -> None:
    """Raise ConfigError where an observation's numbers are not those of the action."""
    action = features.action
    if not feature.is_numeric or feature.stored_shape != action.stored_shape:
        raise ConfigError(
            f"{what} has shape {list(feature.stored_shape)}, and an action "
            f"{list(action.stored_shape)}: a chunk begins and ends with what is observed only "
            "where both are the same numbers"
        )
    if not same_units(feature.units, action.units, action.stored_shape[0]):
        raise ConfigError(
            f"{what} is in {units_text(feature.units)}, and an action in "
            f"{units_text(action.units)}: they must agree"
        )
    if feature.names and action.names and feature.names != action.names:
        raise ConfigError(
            f"{what} has the names {', '.join(feature.names)}, and an action "
            f"{', '.join(action.names)}: they must agree"
        )


def given_tokens(mask: Tensor) -> Tensor:
    """Which actions are given, bool [B, H], by a mask of known parts [B, H, A].

    Raises ConfigError where an action is known in part.
    """
    tokens = (mask > 0).any(dim=2)
    if not torch.equal(mask.float(), tokens[..., None].expand_as(mask).float()):
        raise ConfigError("guidance 'given' takes whole actions, each known entirely (weight 1)")
    return tokens

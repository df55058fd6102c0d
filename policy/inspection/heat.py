"""Heat maps over what a policy's cameras see: where in a picture the next actions come from."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dipole.policy.inspection.attention import ATTENTION, attention_maps, cross_attention
from dipole.policy.inspection.influence import INFLUENCE, influence_maps
from dipole.policy.policy import Policy

NOTHING = 1e-5  # of a normalised action: rounding


@dataclass(frozen=True)
class Heat:
    """Of one camera's newest picture.

    cells: [h', w'], by place in the picture; 1 is this picture's largest. Of attention, what is
        above an even share, and 1 is at least twice that: where all places are attended to alike,
        none is hot.
    share: Of the sum over all cameras' newest pictures.
    kind: "attention": of the chunk's frames to the cell's token, mean over layers, heads and
        evaluations. "influence": see `influence_maps`.
    """

    cells: np.ndarray
    share: float
    kind: str


def heat_maps(policy: Policy, observation: Mapping[str, Any]) -> dict[str, Heat]:
    """By camera; empty for a policy without cameras. Attention where the policy's denoiser attends
    to tokens, and otherwise influence.

    Empty too where chunks are guided at a scale other than 1, or have known ends: what is drawn
    here is not, and its maps would be another policy's.

    A camera is left out whose features the policy does not use, such as one of the pooling
    "pooled", whose vector is made within the backbone.

    observation: Of one row, {name: [To, *shape]}, as `Policy.predict` takes it.
    """
    if policy.guidance_scale != 1 or policy.ends is not None:
        return {}
    # What was made in inference mode cannot be differentiated.
    with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
        seen = policy.seen({name: value[None] for name, value in observation.items()})
        normalised, _ = policy.normalizers.normalize(seen, {})
        attends = bool(cross_attention(policy))
        kind, maps = (ATTENTION, attention_maps) if attends else (INFLUENCE, influence_maps)
        return _scaled(maps(policy, normalised), kind)


def _scaled(maps: Mapping[str, Tensor], kind: str) -> dict[str, Heat]:
    """maps: [h', w'] by camera, not negative; attention in even shares."""
    if not maps:
        return {}
    total = sum(float(cells.sum()) for cells in maps.values()) or 1.0
    even, least = (1.0, 1.0) if kind == ATTENTION else (0.0, NOTHING)
    above = {name: (cells - even).clamp(min=0) for name, cells in maps.items()}
    return {
        name: Heat(
            (above[name] / above[name].max().clamp(min=least)).cpu().numpy(),
            float(cells.sum()) / total,
            kind,
        )
        for name, cells in maps.items()
    }

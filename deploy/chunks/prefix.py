"""What a request says about the chunk it asks for: the actions of it that are known already.

A plain mapping of arrays and numbers, which goes through pipes and sockets as it is; {} where
nothing is known.

    values      [H, A]  in the robot's units: the last To - 1 actions and what is left of the plan
    weights     [H]     how much each of them holds, 0 to 1
    form        which guidance: its place in dipole.policy.diffusion.guidance.METHODS; with "prefix"
                weights are 1, then 0
    clip        the largest guidance weight; 0: the solver's own
    data_scale  see InpaintingGuidance

What is not known repeats the nearest known action, with weight 0: never zeros, for in normalised
space zero is the middle of all demonstrations.
"""

from collections.abc import Sequence

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.loading.window_spec import WindowSpec
from dipole.deploy.types import Floats, KnownActions
from dipole.policy.diffusion.guidance import METHODS, InpaintingGuidance, prefix_weights


def known_prefix(
    past: Sequence[Floats],
    left: Sequence[Floats],
    window: WindowSpec,
    *,
    delay: int,
    keep: int | None = None,
    decay: str = "exponential",
    guidance: InpaintingGuidance | None = None,
) -> KnownActions:
    """What is known of the next chunk where actions are left of the present one.

    past: the actions [A] that ran last, oldest first, at most To - 1 of which belong to the next
    chunk; left: those that come; keep: how many of these guide at all (default: all).
    """
    guidance = guidance or InpaintingGuidance()
    current = window.n_obs_steps - 1  # the index of the action that comes next
    left = list(left)[: window.horizon - current]
    if not left:
        return {}
    past = list(past)[max(0, len(past) - current) :]
    before, known = current - len(past), len(past) + len(left)
    padding = ((before, window.horizon - before - known), (0, 0))
    values = np.pad(np.stack([*past, *left]), padding, mode="edge")  # [H, A]
    weights = np.zeros(window.horizon)
    weights[before:current] = 1.0
    kept = len(left) if keep is None else min(keep, len(left))
    weights[current:] = prefix_weights(delay, kept, window.horizon - current, decay)
    return {
        "values": values.astype(np.float32),
        "weights": weights.astype(np.float32),
        "form": METHODS.index(guidance.method),
        "clip": guidance.max_weight or 0.0,
        "data_scale": guidance.data_std,
    }


def whole_prefix(
    past: Sequence[Floats], left: Sequence[Floats], window: WindowSpec, delay: int
) -> KnownActions:
    """The beginning of the next chunk, for a policy that goes on from it: what ran last, and the
    `delay` actions that will have run when the chunk arrives; {} where none is left.

    Where fewer than To - 1 ran, the first that is known stands for those before it, as in training.
    """
    known = known_prefix(past, left, window, delay=delay, guidance=InpaintingGuidance("prefix"))
    if not known:
        return {}
    length = window.n_obs_steps - 1 + min(delay, len(left))
    weights = (np.arange(window.horizon) < length).astype(np.float32)
    return {**known, "weights": weights}


def check_known(known: KnownActions, window: WindowSpec, action_size: int) -> InpaintingGuidance:
    """The guidance that a request asks for. Raises ConfigError for what cannot be used."""
    try:
        values, weights = np.asarray(known["values"]), np.asarray(known["weights"])
        method = METHODS[int(known["form"])]
        guidance = InpaintingGuidance(
            method, float(known["clip"]) or None, float(known["data_scale"])
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"what is known of the chunk cannot be read: {error!r}") from None
    wanted = {"values": (window.horizon, action_size), "weights": (window.horizon,)}
    for name, array in (("values", values), ("weights", weights)):
        if array.shape != wanted[name] or array.dtype.kind not in "fiu":
            raise ConfigError(
                f"the known {name} have shape {list(array.shape)} and dtype {array.dtype}; "
                f"numbers of shape {list(wanted[name])} are needed"
            )
    if not np.isfinite(values).all() or not ((weights >= 0) & (weights <= 1)).all():
        raise ConfigError("known values are finite, and their weights lie between 0 and 1")
    return guidance

"""Guidance of a policy that is loaded, by plain values of a configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.policy import Policy


def set_guidance(
    policy: Policy, scale: float | None, costs: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Guide by this scale, unless it is None, and down these costs, from now on.

    costs: Each as `CostTerm.from_dict` takes it. Raises ConfigError for what the policy cannot do.
    """
    if scale is not None:
        policy.guidance_scale = scale
    terms = [CostTerm.from_dict(each) for each in costs]
    if terms and "costs" not in policy.head.supports:
        raise ConfigError(f"the policy's head {policy.config.head['name']!r} takes no costs")
    policy.costs = terms


def check_built_in(
    schema: Mapping[str, Any], scale: float | None, costs: Sequence[Mapping[str, Any]]
) -> None:
    """Raise ConfigError where an export is to be guided otherwise than it was made."""
    built_in = schema.get("guidance_scale", 1.0)
    if scale is not None and scale != built_in:
        raise ConfigError(
            f"guidance_scale={scale}: the export's scale is part of it, {built_in:g}; export the "
            f"checkpoint again with guidance_scale={scale}"
        )
    if costs:
        raise ConfigError("costs need gradients, which exports lack: evaluate the checkpoint")

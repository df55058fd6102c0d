"""Which dataset of a mixture a robot is like: its numbers, and what they mean."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dipole.data import Feature, Features
from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.data.core.registry import nearest
from dipole.data.loading.mixture.part_mapping import Rescaling
from dipole.policy.normalizer import Normalizer
from dipole.policy.policy import Policy


def use_part(policy: Policy, config: Mapping[str, Any], part: str | None) -> None:
    """Let a policy take and give the numbers of one dataset of the mixture that it learned from:
    with its conversions, units and names, and in its range.

    config: Of its checkpoint.
    part: The dataset's name; None for policies of one range, which need none.
    Raises ConfigError where the name is lacking or unknown.
    """
    dataset = config.get("dataset") or {}
    parts = {str(entry.get("name")): entry for entry in dataset.get("parts") or ()}
    if part is not None and part not in parts:
        raise ConfigError(_unknown(part, parts))
    if part is None:
        if dataset.get("normalizer") != "per_part":
            return
        raise ConfigError(
            "the policy was trained on datasets with ranges of their own: say which one the robot "
            f"is like by part=NAME; there are {', '.join(parts)}"
        )
    try:
        _use(policy, parts[part])
    except (ConfigError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"config.json, dataset {part!r}: {error}") from error


def _use(policy: Policy, part: Mapping[str, Any]) -> None:
    for name, values in part.get("rescaling", {}).items():
        rescaling = Rescaling.from_dict(values)
        normalizer = policy.normalizers[name]
        assert isinstance(normalizer, Normalizer)
        normalizer.fold(rescaling.scale, rescaling.offset)
        if name == "action":
            policy.held.fold(rescaling.scale, rescaling.offset)
    if held := part.get("held"):
        policy.held.hold(held["entries"], held["low"], held["high"])
    if "features" in part:  # checkpoints of an earlier version have none
        own = Features.from_dict(part["features"])
        entries = list(part.get("action_entries", ()))
        in_order = entries == list(range(policy.features.action.shape[0]))
        policy.features = _as_in(own, policy.features, in_order)


def _as_in(own: Features, features: Features, in_order: bool) -> Features:
    """The policy's features, with what the part says of those that it has whole.

    in_order: Whether the action's numbers are the policy's, in its order.
    """
    observation = {
        name: _merged(feature, own.observation.get(name))
        for name, feature in features.observation.items()
    }
    action = _merged(features.action, own.action) if in_order else features.action
    return replace(features, observation=observation, action=action)


def _merged(feature: Feature, own: Feature | None) -> Feature:
    if own is None or own.shape != feature.shape:
        return feature
    return replace(feature, convert=own.convert, units=own.units, names=own.names)


def _unknown(part: str, parts: Mapping[str, Any]) -> str:
    known = f" There are {', '.join(parts)}" if parts else " The policy is of a single dataset"
    return f"no dataset {part!r} in the mixture{nearest(part, parts) or '.'}{known}"

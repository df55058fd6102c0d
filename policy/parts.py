"""Which dataset of a mixture a robot is like, where each was normalised by its own statistics."""

from collections.abc import Mapping
from typing import Any

from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.data.core.registry import nearest
from dipole.data.loading.mixture.part_mapping import Rescaling
from dipole.policy.normalizer import Normalizer
from dipole.policy.policy import Policy


def use_part(policy: Policy, config: Mapping[str, Any], part: str | None) -> None:
    """Let a policy take and give the numbers of one dataset of the mixture that it learned from.

    config: of its checkpoint. part: the dataset's name; None for policies of one range, which need
    none. Raises ConfigError where the name is lacking or unknown.
    """
    dataset = config.get("dataset") or {}
    parts = {str(entry.get("name")): entry for entry in dataset.get("parts") or ()}
    if dataset.get("normalizer") != "per_part":
        if part is not None and part not in parts:
            raise ConfigError(_unknown(part, parts))
        return
    if part is None:
        raise ConfigError(
            "the policy was trained on datasets with ranges of their own: say which one the robot "
            f"is like by part=NAME; there are {', '.join(parts)}"
        )
    if part not in parts:
        raise ConfigError(_unknown(part, parts))
    for name, rescaling in _rescalings(parts[part]).items():
        normalizer = policy.normalizers[name]
        assert isinstance(normalizer, Normalizer)
        normalizer.fold(rescaling.scale, rescaling.offset)
        if name == "action":
            policy.held.fold(rescaling.scale, rescaling.offset)


def _rescalings(part: Mapping[str, Any]) -> dict[str, Rescaling]:
    try:
        found = {k: Rescaling.from_dict(v) for k, v in part.get("rescaling", {}).items()}
    except ValueError as error:
        raise CheckpointError(f"config.json, dataset {part.get('name')!r}: {error}") from error
    return found


def _unknown(part: str, parts: Mapping[str, Any]) -> str:
    known = f" There are {', '.join(parts)}" if parts else " The policy is of a single dataset"
    return f"no dataset {part!r} in the mixture{nearest(part, parts) or '.'}{known}"

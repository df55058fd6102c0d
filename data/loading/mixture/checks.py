"""Whether the parts of a mixture fit the policy's features, and each other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.core.units import same_units as are_same
from dipole.data.core.units import units_text
from dipole.data.loading.batch_plan import part_quotas
from dipole.data.loading.features import Feature, Features
from dipole.data.loading.targets import Target

if TYPE_CHECKING:
    from dipole.data.loading.mixture.mixture import MixturePart


def check_parts(given: "Sequence[MixturePart]", features: Features, same_units: bool) -> None:
    """Raise ConfigError, naming the part, for what cannot be mixed.

    same_units: whether numbers of all parts share a range, so that their units must be the same.
    """
    if not given:
        raise ConfigError("a mixture needs at least one dataset")
    names = [part.name for part in given]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two datasets are called {name!r}: give each a name of its own")
    for part in given:
        try:
            part_quotas([part.weight])
        except ConfigError as error:
            raise ConfigError(f"dataset {part.name!r}: {error}") from error
        if part.windows.spec != given[0].windows.spec:
            raise ConfigError(f"dataset {part.name!r} has another window than {given[0].name!r}")
        for name, feature in part.windows.features.observation.items():
            if name not in features.observation:
                known = list(features.observation)
                raise ConfigError(
                    f"dataset {part.name!r}: the policy has no observation "
                    f"{name!r}{nearest(name, known) or '.'} It has: {', '.join(known)}"
                )
            where = f"dataset {part.name!r}, observation {name!r}"
            _check_feature(where, feature, features.observation[name], same_units)
        _check_action(part, features, same_units)
    _check_all_there(given, features)


def common_targets(given: "Sequence[MixturePart]", same_units: bool) -> dict[str, Target]:
    """The targets that any of the parts has. Raises ConfigError for parts that differ in one."""
    found: dict[str, Target] = {}
    for part in given:
        for name, target in part.windows.targets.items():
            first = found.setdefault(name, target)
            where = f"dataset {part.name!r}, target {name!r}"
            _check_feature(where, target.feature, first.feature, same_units)
    return found


def _check_feature(where: str, own: Feature, policy: Feature, same_units: bool) -> None:
    if (own.kind, own.shape) != (policy.kind, policy.shape):
        raise ConfigError(
            f"{where}: {own.kind} of shape {list(own.shape)}, but the policy has {policy.kind} of "
            f"shape {list(policy.shape)}. Choose columns or a transform that give it"
        )
    for key, said in (("represent", "represent"), ("depth_range", "range of depth, or normalize,")):
        if getattr(own, key) != getattr(policy, key):
            raise ConfigError(f"{where}: {said} differs from the policy's: leave it out")
    size = own.shape[-1] if own.shape else 1
    if same_units and not are_same(own.network_units, policy.network_units, size):
        raise ConfigError(
            f"{where} is in {units_text(own.network_units)}, but the policy's is in "
            f"{units_text(policy.network_units)}: convert one of them, or set normalizer: per_part"
        )
    if own.network_names and policy.network_names and own.network_names != policy.network_names:
        raise ConfigError(
            f"{where} has the names {', '.join(own.network_names)}, but the policy's are "
            f"{', '.join(policy.network_names)}: choose columns in that order"
        )


def _check_action(part: "MixturePart", features: Features, same_units: bool) -> None:
    own, policy, entries = part.windows.features.action, features.action, part.entries
    where = f"dataset {part.name!r}, action"
    size = policy.shape[0]
    sound = len(entries) == own.shape[0] == len(set(entries))
    if not sound or min(entries) < 0 or max(entries) >= size:
        raise ConfigError(
            f"{where}: {own.shape[0]} numbers to entries {list(entries)} of the policy's {size}. "
            "Give each of them one entry, counted from 0"
        )
    sizes = {k: one.shape[0] for k, one in features.observation.items() if len(one.shape) == 1}
    ours = own.represent and own.represent.for_entries(range(own.shape[0]), sizes)
    if ours != (policy.represent and policy.represent.for_entries(entries, sizes)):
        raise ConfigError(f"{where}: represent differs from the policy's: leave it out")
    if own.network_names and policy.network_names:
        expected = tuple(policy.network_names[entry] for entry in entries)
        if own.network_names != expected:
            raise ConfigError(
                f"{where} has the names {', '.join(own.network_names)}, but they go to "
                f"{', '.join(expected)}: choose columns, or entries, in that order"
            )
    if same_units:
        wanted = policy.network_units
        if not isinstance(wanted, str):
            wanted = tuple(wanted[entry] for entry in entries)
        if not are_same(own.network_units, wanted, own.shape[0]):
            raise ConfigError(
                f"{where} is in {units_text(own.network_units)}, but the policy's is in "
                f"{units_text(wanted)}: convert one of them, or set normalizer: per_part"
            )


def _check_all_there(given: "Sequence[MixturePart]", features: Features) -> None:
    for name in features.observation:
        if not any(name in part.windows.features.observation for part in given):
            raise ConfigError(f"observation {name!r}: no dataset of the mixture has it")
    there = {entry for part in given for entry in part.entries}
    absent = sorted(set(range(features.action.shape[0])) - there)
    if absent:
        raise ConfigError(f"action number {absent[0]}: no dataset of the mixture has it")

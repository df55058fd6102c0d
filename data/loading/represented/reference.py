"""Whether an observation can be what a represented feature is relative to."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.core.units import each_unit, same_units, units_text
from dipole.data.transforms.column_group import ColumnGroup

if TYPE_CHECKING:
    from dipole.data.loading.features import Feature, Features


def check_references(features: "Features") -> None:
    """Raise ConfigError, naming both, unless the observations that features are relative to are
    there, with the columns and in the units that they need."""
    for name, feature in features.named().items():
        if feature.represent is not None:
            _check(name, feature, features.observation)


def _check(name: str, feature: "Feature", observation: "Mapping[str, Feature]") -> None:
    assert feature.represent is not None
    for group in feature.represent.groups:
        of = group.of or feature.represent.of
        where = f"feature {name!r}, represent"
        if of not in observation:
            raise ConfigError(
                f"{where}: it is relative to {of!r}, which is no observation"
                f"{nearest(of, observation) or ';'} there are {', '.join(observation)}. A policy "
                "can only be told what it observes"
            )
        pose = observation[of]
        if pose.kind != "state" or len(pose.shape) != 1:
            raise ConfigError(
                f"{where}: {of!r} is of kind {pose.kind} and shape {list(pose.shape)}: a vector of "
                "kind state is needed"
            )
        taken = group.reference_columns(pose.shape[0])
        if max(taken) >= pose.shape[0]:
            raise ConfigError(
                f"{where}: columns {list(group.columns)} are relative to columns {list(taken)} of "
                f"{of!r}, which has {pose.shape[0]}: say which by reference: [...]"
            )
        _check_units(where, feature, group, pose, of, taken)


def _check_units(
    where: str,
    feature: "Feature",
    group: ColumnGroup,
    pose: "Feature",
    of: str,
    taken: tuple[int, ...],
) -> None:
    ours = each_unit(feature.network_units, feature.shape[0])
    theirs = each_unit(pose.network_units, pose.shape[0])
    for column, other in zip(group.columns, taken, strict=True):
        one, two = ours[column], theirs[other]
        if not same_units(one, two, 1):
            raise ConfigError(
                f"{where}: column {column} is in {units_text(one)}, but column {other} of {of!r}, "
                f"to which it is relative, is in {units_text(two)}: convert one of them"
            )

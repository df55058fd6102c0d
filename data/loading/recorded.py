"""What a dataset says of its numbers - names, units, frames per second - goes into the features.

    the dataset    joints [N, 2], units "deg", names (shoulder, elbow), 50 frames a second
    the task       angle: {shape: [1], source: joints, columns: [1]}
    the feature    angle in deg, named (elbow), at 50 frames a second

What a transform makes of an array is another thing than the array: only the task can say its unit.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import Units, each_unit, same_units, units_text
from dipole.data.loading.represented.reference import check_references
from dipole.data.store.store import EpisodeStore

if TYPE_CHECKING:
    from dipole.data.loading.features import Feature, Features


def as_recorded(features: "Features", store: EpisodeStore) -> "Features":
    """The features with the names, units and rate that the dataset records, beside their own.

    Raises ConfigError, naming both sides, where a feature or the rate says something else.
    """
    observation = {
        name: recorded_feature(store, name, feature)
        for name, feature in features.observation.items()
    }
    action = recorded_feature(store, "action", features.action)
    found = replace(features, observation=observation, action=action, fps=_fps(features, store))
    check_references(found)
    return found


def _fps(features: "Features", store: EpisodeStore) -> float | None:
    ours, theirs = features.fps, store.fps
    if ours is not None and theirs is not None and not math.isclose(ours, theirs, rel_tol=1e-6):
        raise ConfigError(
            f"the task says fps = {ours:g}, but {store.path} was recorded at {theirs:g} frames a "
            "second: correct one of them, or leave fps out of the task"
        )
    return ours if theirs is None else theirs


def recorded_feature(store: EpisodeStore, name: str, feature: "Feature") -> "Feature":
    """A feature with the names and units that the dataset records of its source; see above."""
    key = feature.source or name
    if feature.transform is not None or key not in store:
        return feature
    schema = store.schema(key)
    size = feature.stored_shape[-1] if feature.stored_shape else 1
    units, names = _chosen(schema, feature.columns, size)
    where = f"the task's feature {name!r}"
    if not same_units(feature.units, units, size):
        raise ConfigError(
            f"{where} is in {units_text(feature.units)}, but {store.path} has {key!r} in "
            f"{units_text(units)}: correct one of them, or leave units out of the task"
        )
    if feature.names and names and feature.names != names:
        raise ConfigError(
            f"{where} has the names {', '.join(feature.names)}, but {store.path} has {key!r} as "
            f"{', '.join(names)}: correct one of them, choose by columns, or leave names out"
        )
    if feature.stored_shape != (size,) or len(names) != size:
        names = ()  # of another shape than the array's, which is said where it is read
    return replace(feature, units=_merged(feature.units, units, size), names=feature.names or names)


def _chosen(
    schema: Mapping[str, Any], columns: tuple[int, ...] | None, size: int
) -> tuple[Units, tuple[str, ...]]:
    """Units and names of the columns that a feature takes; nothing where they do not fit."""
    shape = schema["shape"] or [1]
    entries = range(shape[-1]) if columns is None else columns
    names, units = _flat(schema.get("names")), schema["units"]
    if len(names) != shape[-1] or len(shape) != 1 or max(entries) >= len(names):
        names = []
    if isinstance(units, list):
        sound = len(units) == shape[-1] and max(entries) < len(units) and len(entries) == size
        units = tuple(units[column] for column in entries) if sound else ""
    return units, tuple(names[column] for column in entries) if names else ()


def _flat(names: Any) -> list[str]:
    """Names in nested lists or tables, as other formats have them, one after the other."""
    if isinstance(names, Mapping):
        names = list(names.values())
    if isinstance(names, list | tuple):
        return [word for entry in names for word in _flat(entry)]
    return [] if names is None else [str(names)]


def _merged(ours: Units, theirs: Units, size: int) -> Units:
    """What either side knows of each number."""
    if isinstance(ours, str) and isinstance(theirs, str):
        return theirs or ours
    pairs = zip(each_unit(theirs, size), each_unit(ours, size), strict=True)
    return tuple(one or other for one, other in pairs)

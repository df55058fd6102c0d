"""Several datasets as one source: their episodes one after another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.units import Units
from dipole.data.sources.combine.wrapped import WrappedEpisode
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo
from dipole.data.store.metadata import actions_of
from dipole.data.store.objects.url import DatasetPath, ObjectUrl
from dipole.data.store.schema import FrameSchema

NAMELESS = "the entries of {key} have no names; they are taken to be in the order of"
UNITLESS = "{key} has no units; it is taken to be in those of"


def joined(sources: Sequence[Source]) -> Source:
    """The episodes of `sources` one after another, numbered anew.

    They agree in their keys, shapes, dtypes, frame rates and environments, and in the units that
    they record: a key without units takes those of the other datasets, which a warning says.
    Entries of vectors with the same names in another order are put into the first source's order.
    Raises DataError, naming both, where two of them do not agree.
    """
    if not sources:
        raise DataError("nothing to join: name at least one dataset")
    return sources[0] if len(sources) == 1 else _Joined(sources)


class _Joined:
    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        first = _described([source.info for source in sources])
        self._orders = [_entry_orders(first, source.info) for source in sources]
        self._episodes = [
            (number, ref) for number, source in enumerate(sources) for ref in source.episodes()
        ]
        self._refs = [replace(ref, id=k) for k, (_, ref) in enumerate(self._episodes)]
        new_ids: list[dict[int, int]] = [{} for _ in sources]
        for k, (number, ref) in enumerate(self._episodes):
            new_ids[number][ref.id] = k
        infos = [source.info for source in sources]
        self._info = replace(
            first,
            warnings=(
                *_unsaid(infos, "names", NAMELESS),
                *_unsaid(infos, "units", UNITLESS),
                *_differing(infos),
            ),
            absent=_renumbered([info.absent for info in infos], new_ids),
            groups={
                name: tuple(ids)
                for name, ids in _renumbered([info.groups for info in infos], new_ids).items()
            },
            environment=_in_common([info.environment for info in infos]),
            attributes=_attributes_in_common(infos),
            left_out={key: why for info in infos for key, why in info.left_out.items()},
            unreadable={key: why for info in infos for key, why in info.unreadable.items()},
            typed=first.typed.union(*(info.typed for info in infos)),
            history=(*first.history, *(f"joined {files_state(info)}" for info in infos[1:])),
        )

    @property
    def info(self) -> SourceInfo:
        own, parts = self._info.warnings, [source.info.warnings for source in self._sources]
        warnings = dict.fromkeys(warning for part in (own, *parts) for warning in part)
        return replace(self._info, warnings=tuple(warnings))

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        number, original = self._episodes[ref.id]
        episode = self._sources[number].open(original)
        return _Reordered(episode, self._refs[ref.id], self._orders[number])

    def close(self) -> None:
        for source in self._sources:
            source.close()


class _Reordered(WrappedEpisode):
    def __init__(
        self, episode: SourceEpisode, ref: EpisodeRef, orders: Mapping[str, list[int]]
    ) -> None:
        super().__init__(episode, ref)
        self._orders = orders

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        frames = self._episode.read(key, start, stop)
        return frames[:, self._orders[key]] if key in self._orders else frames


def files_state(info: SourceInfo) -> str:
    """A source's place, what was done to it, and when the newest of its files was changed."""
    path = whole_path(info.path)
    return " ".join([path, f"changed {newest_change(info.path)}", *info.history])


def whole_path(path: DatasetPath) -> str:
    """A path from the root on, as a text."""
    return str(path) if isinstance(path, ObjectUrl) else str(path.resolve())


def newest_change(path: DatasetPath) -> int | str:
    """When the newest of the files at a path was changed, nanoseconds; in object storage, a hash of
    all objects' versions."""
    if isinstance(path, ObjectUrl):
        from dipole.data.store.objects.tree import version_of

        return version_of(path)
    path = path.resolve()
    files: Sequence[Path] = [*path.rglob("*")] if path.is_dir() else [path]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


def _described(infos: Sequence[SourceInfo]) -> SourceInfo:
    """The first info; what it does not say of its entries, names and units, as the first other one
    says it."""
    first, *others = infos
    frames = dict(first.frames)
    for key, schema in first.frames.items():
        shaped = [i.frames[key] for i in others if key in i.frames]
        shaped = [each for each in shaped if each.shape == schema.shape]
        names = schema.names or next((each.names for each in shaped if each.names), ())
        named = replace(schema, names=names)
        told = (_with_units_of(named, each) for each in shaped if each.units)
        frames[key] = named if schema.units else next(told, named)
    return replace(first, frames=frames)


def _with_units_of(schema: FrameSchema, other: FrameSchema) -> FrameSchema:
    """The schema with the units of a named other one, in its own order of entries."""
    order = _order_of_names(schema.names, other.names)
    return replace(schema, units=other.units if order is None else _ordered(other.units, order))


def _ordered(units: Units, order: Sequence[int]) -> Units:
    return units if isinstance(units, str) else tuple(units[n] for n in order)


def _renumbered(
    tables: Sequence[Mapping[str, Sequence[int]]], new_ids: Sequence[Mapping[int, int]]
) -> dict[str, list[int]]:
    """Lists of episode ids by name, of all sources together and by their new ids."""
    merged: dict[str, list[int]] = {}
    for table, ids in zip(tables, new_ids, strict=True):
        for name, old in table.items():
            merged.setdefault(name, []).extend(ids[id] for id in old if id in ids)
    return merged


def _in_common(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all say: a version that one of them does not know is not that of all."""
    first, *others = environments
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _attributes_in_common(infos: Sequence[SourceInfo]) -> dict[str, Any]:
    """What all say of themselves; of tables, such as "recording", the entries that all have alike,
    each whole or not at all."""
    every = [info.attributes for info in infos]
    found = _in_common(every)
    for name in every[0].keys() - found.keys():
        tables = [said[name] for said in every if isinstance(said.get(name), Mapping)]
        alike = _in_common(tables) if len(tables) == len(every) else {}
        if alike:
            found[name] = alike
    return found


def _differing(infos: Sequence[SourceInfo]) -> list[str]:
    """Which of their attributes are not those of the dataset that is made of all."""
    kept = _attributes_in_common(infos)
    lost = set()
    for info in infos:
        for name, said in info.attributes.items():
            if name not in kept:
                lost.add(name)
            elif isinstance(said, Mapping):
                lost |= {f"{name}.{entry}" for entry in said.keys() - kept[name].keys()}
    return [
        f"the attribute {name!r} is not the same in all of the datasets, and is left out"
        for name in sorted(lost)
    ]


def _entry_orders(first: SourceInfo, other: SourceInfo) -> dict[str, list[int]]:
    """For keys whose entries are named in another order: where each of `first`'s entries stands.

    Raises DataError where the two do not agree.
    """
    if set(first.frames) != set(other.frames):
        raise DataError(
            f"{other.path} has the keys {', '.join(sorted(other.frames))}, but {first.path} has "
            f"{', '.join(sorted(first.frames))}: take what both have by --keys"
        )
    orders = {}
    for key, schema in first.frames.items():
        there = other.frames[key]
        order = _order(first, other, key)
        if order is not None:
            orders[key] = order
            there = replace(there, names=schema.names, units=_ordered(there.units, order))
        if not there.units:
            there = replace(there, units=schema.units)
        for what in ("kind", "shape", "dtype", "units", "storage"):
            one, two = getattr(schema, what), getattr(there, what)
            if one != two:
                raise DataError(
                    f"{other.path}: {what} of {key!r} is {two!r}, but {one!r} in {first.path}"
                )
    _check_recording(first, other)
    return orders


def _order(first: SourceInfo, other: SourceInfo, key: str) -> list[int] | None:
    """Where `first`'s entries stand in `other`, or None where they stand as they do in `first`."""
    one, two = first.frames[key].names, other.frames[key].names
    order = _order_of_names(one, two)
    if order is None and one and two and one != two:
        raise DataError(
            f"{other.path}: the entries of {key!r} are {', '.join(two)}, but "
            f"{', '.join(one)} in {first.path}"
        )
    return order


def _order_of_names(one: Sequence[str], two: Sequence[str]) -> list[int] | None:
    """Where the names `one` stand in `two`; None where they are the same, or not the same ones."""
    if one == two or sorted(one) != sorted(two) or len(set(one)) < len(one):
        return None
    return [two.index(name) for name in one]


def _unsaid(infos: Sequence[SourceInfo], field: str, said: str) -> list[str]:
    """Warnings of keys of which only some of the sources say a field."""
    warnings = []
    for key in infos[0].frames:
        silent = [str(info.path) for info in infos if not getattr(info.frames[key], field)]
        if 0 < len(silent) < len(infos):
            warnings.append(f"{', '.join(silent)}: {said.format(key=repr(key))} the other datasets")
    return warnings


def _check_recording(first: SourceInfo, other: SourceInfo) -> None:
    if first.fps != other.fps:
        raise DataError(
            f"{other.path} {_rate(other)}, but {first.path} {_rate(first)}{_say(first, other)}"
        )
    both = set(first.environment) & set(other.environment)
    same = all(first.environment[word] == other.environment[word] for word in both)
    same &= actions_of(first.environment) == actions_of(other.environment)
    if not same or bool(first.environment) != bool(other.environment):
        raise DataError(
            f"{other.path} was recorded in {_where(other)}, but {first.path} in {_where(first)}"
            + ("" if both else ": say what is not recorded by --environment NAME")
        )


def _rate(info: SourceInfo) -> str:
    return "records no frame rate" if info.fps is None else f"has {info.fps:g} frames a second"


def _say(first: SourceInfo, other: SourceInfo) -> str:
    return ": say what is not recorded by --fps N" if None in (first.fps, other.fps) else ""


def _where(info: SourceInfo) -> str:
    return " ".join(map(str, info.environment.values())) or "an unknown environment"

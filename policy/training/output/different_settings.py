"""The settings that differ between runs: all of them, and without those that follow from others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNKNOWN = object()  # a setting that a run of another edition does not have
NO_SETTINGS = ("output", "resume", "overrides")
LEFT_OUT_IS_NONE = ("task",)  # groups that users write, with what they need and nothing else
HOUSEKEEPING = tuple(
    f"train.{name}"
    for name in ("checkpoint_every", "device", "keep_checkpoints", "log_every", "threads")
)


def different_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{dotted key: the value of each}, of settings that differ; None where one does not have it.

    What follows from the name of a group is left out: with policy.name unet and dit the sizes of
    their networks differ, and only what runs of one name have differently is said beside it.
    """
    return without_what_follows(all_different_settings(configs))


def all_different_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """As `different_settings`, also those that follow from the name of a group."""
    paths = {".".join(path): path for config in configs for path in _paths(config)}
    found: dict[str, list[Any]] = {}
    for key in sorted(paths, key=_order):
        values = [_value(config, paths[key]) for config in configs]
        known = [value for value in values if value is not UNKNOWN]
        if all(value == known[0] for value in known):
            continue
        found[key] = [None if value is UNKNOWN else value for value in values]
    return found


def without_what_follows(different: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Of all that differ, those that no name of a group decides."""
    found: dict[str, list[Any]] = {}
    for key, values in different.items():
        if not _follows(key, values, found):
            found[key] = values
    return found


def _order(key: str) -> tuple[int, int]:
    """Names before what may follow from them, those of larger groups first; housekeeping last."""
    if key.rpartition(".")[2] == "name":
        return 0, key.count(".")
    return 1 + (key in HOUSEKEEPING), 0


def _follows(key: str, values: Sequence[Any], found: Mapping[str, Sequence[Any]]) -> bool:
    """Whether a setting is the same in all runs that have the same name of a group it is in."""
    groups = [key[:n] for n, letter in enumerate(key) if letter == "."]
    for name in (f"{group}.name" for group in groups):
        if name == key or name not in found:
            continue
        of: dict[str, Any] = {}
        pairs = [(str(n), value) for n, value in zip(found[name], values, strict=True)]
        if all(of.setdefault(named, value) == value for named, value in pairs):
            return True
    return False


def _paths(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Of all settings: names of their groups and their own, which may have dots in it."""
    for name, value in config.items():
        if not above and name in NO_SETTINGS:
            continue
        if isinstance(value, Mapping) and value:
            yield from _paths(value, (*above, name))
        else:
            yield (*above, name)


def _value(config: Mapping[str, Any], path: Sequence[str]) -> Any:
    """None where it, or a group that it is in, is null or empty, and where its group is left out.

    UNKNOWN where its group is there and lacks it, and where it is a group of settings here, each of
    which is compared.
    """
    inner: Any = config
    for depth, name in enumerate(path):
        if not isinstance(inner, Mapping) or not inner:
            return None  # nothing of it was asked for
        if name not in inner:
            grouped = depth > 0 and (depth < len(path) - 1 or path[0] in LEFT_OUT_IS_NONE)
            return None if grouped else UNKNOWN
        inner = inner[name]
    if isinstance(inner, Mapping):
        return UNKNOWN if inner else None
    return inner

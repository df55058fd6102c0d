"""The settings that differ between runs, without those that follow from others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNKNOWN = object()  # a setting that a run of another edition does not have
NO_SETTINGS = ("output", "resume", "overrides")
HOUSEKEEPING = tuple(
    f"train.{name}"
    for name in ("checkpoint_every", "device", "keep_checkpoints", "log_every", "threads")
)


def different_settings(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{dotted key: the value of each}, of settings that differ; None where one does not have it.

    What follows from the name of a group is left out: with policy.name unet and dit the sizes of
    their networks differ, and only what runs of one name have differently is said beside it.
    """
    flat = [dict(_flat(config)) for config in configs]
    found: dict[str, list[Any]] = {}
    for key in sorted(dict.fromkeys(key for each in flat for key in each), key=_order):
        values = [each.get(key, UNKNOWN) for each in flat]
        known = [value for value in values if value is not UNKNOWN]
        if all(value == known[0] for value in known) or _follows(key, values, found):
            continue
        found[key] = [None if value is UNKNOWN else value for value in values]
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
        if all(_same(of.setdefault(named, value), value) for named, value in pairs):
            return True
    return False


def _same(one: Any, other: Any) -> bool:
    return one is other if UNKNOWN in (one, other) else bool(one == other)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if not prefix and name in NO_SETTINGS:
            continue
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

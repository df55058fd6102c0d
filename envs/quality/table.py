"""The aspects of quality as lines of text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

NAMES, VALUES = 24, 12  # widths of the first two columns


class Row(NamedTuple):
    """An aspect that was measured: its name, its value, and what a person may want to know."""

    name: str
    value: str
    note: str


def table(values: Mapping[str, Any]) -> list[str]:
    """A title, and a line for each aspect that was measured. values: `aspects` of metrics.json."""
    lines = [f"  {row.name:<{NAMES}}{row.value:<{VALUES}}{row.note}" for row in rows(values)]
    return [title(values), *(line.rstrip() for line in lines)]


def title(values: Mapping[str, Any]) -> str:
    """What was measured on, and in what units."""
    return (
        f"{values['observations']} held-out observations, {values['samples']} chunks each; "
        "distances in standard deviations of the demonstrated actions"
    )


def rows(values: Mapping[str, Any]) -> list[Row]:
    """The aspects that were measured, fidelity first."""
    found = [
        ("energy score", "energy_score", "the lower the better"),
        ("error", "error", "of a chunk to the demonstrated one"),
        ("spread", "spread", "of two chunks for one observation"),
        ("spread / error", "spread_ratio", "1: as varied as demonstrations"),
        ("energy distance", "energy_distance", "of all chunks together; 0: none"),
        ("precision", "precision", "of sampled chunks, near demonstrated ones"),
        ("recall", "recall", "of demonstrated chunks, near sampled ones"),
        ("mode entropy", "mode_entropy", _counts(values)),
        ("log-likelihood", "log_likelihood", "nats a number; the higher the better"),
        ("seam jump", "seam_jump", "between successive chunks, in the action's units"),
        ("jerk", "jerk", _of_demonstrations(values)),
        ("network evaluations", "evaluations_per_chunk", "a chunk"),
        ("milliseconds", "chunk_ms", "a chunk, in batches"),
    ]
    return [
        Row(name, f"{values[key]:.4g}", _noted(values, key, note))
        for name, key, note in found
        if values.get(key) is not None
    ] + [_action_row(each) for each in values.get("action_errors", ())]


def _action_row(each: Mapping[str, Any]) -> Row:
    unit = f" {each['unit']}" if each["unit"] else ""
    note = f"{_noted(each, 'error', 'mean absolute')}, of one of the action's numbers"
    return Row(f"error of {each['name']}", f"{each['error']:.4g}{unit}", note)


def _noted(values: Mapping[str, Any], key: str, note: str) -> str:
    interval = values.get(f"{key}_ci95")
    return note if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}; {note}"


def _counts(values: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{mode} {count}" for mode, count in values.get("modes", {}).items())
    return f"of successful episodes: {counts}"


def _of_demonstrations(values: Mapping[str, Any]) -> str:
    jerk = values.get("demonstrated_jerk")
    return "" if jerk is None else f"demonstrations: {jerk:.4g}"

"""What training says of numbers that it cannot learn as they are stored."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from dipole.data.core.precision import coarse_columns
from dipole.data.loading.features import Feature
from dipole.data.loading.statistics import SMALLEST_RANGE, Statistics, read_plan

if TYPE_CHECKING:
    from dipole.data.loading.feature_reader import FeatureReader
    from dipole.data.loading.window_source import WindowSource

ROUNDING = 8  # spacings of float32 within which a number stands still
STILL = 1e-9  # and so does one that moves by less than this


def number_notes(train: "WindowSource", statistics: Mapping[str, Statistics]) -> list[str]:
    """Lines on columns that lose steps in float32, and on actions that move by so little that they
    are held constant.

    statistics: Of `train`. Columns that are stored as float64 are read once more.
    """
    action = train.features.action
    notes = list(_small(action, statistics["action"]))
    for windows in train.parts:
        for reader in windows.readers.values():
            if reader.feature.is_numeric and reader.is_stored_as_float64:
                notes += _coarse(reader, windows.frame_ranges())
    return notes


def _small(action: Feature, found: Statistics) -> Iterator[str]:
    """Numbers of the action that move, but by less than is normalised."""
    size = np.maximum(np.abs(found.min), np.abs(found.max)).astype(np.float32)
    moved = np.asarray(found.max, float) - found.min
    moves = moved > np.maximum(ROUNDING * np.spacing(size).astype(float), STILL)
    if action.normalize == "identity":
        return
    for number in np.flatnonzero(found.constant & moves):
        yield (
            f"{_named(action, 'action', int(number))} moves by {moved[number]:.2g} only, less than "
            f"{SMALLEST_RANGE:g}, and is held constant: record it in other units, or say convert: "
            "range_to_unit in the task"
        )


def _coarse(reader: "FeatureReader", ranges: list[tuple[int, int]]) -> Iterator[str]:
    """Columns that are stored as float64 and need it, but are trained on as float32."""
    feature = reader.feature
    low, high = np.array(np.inf), np.array(-np.inf)
    for start, stop in read_plan(reader, ranges):
        frames = reader.read_exact(start, stop).reshape(-1, *feature.shape)
        low, high = np.minimum(low, frames.min(0)), np.maximum(high, frames.max(0))
    coarse = np.flatnonzero(coarse_columns(low, high))
    if len(coarse):
        columns = ", ".join(_named(feature, reader.name, int(number)) for number in coarse)
        yield (
            f"{reader.where}: {columns}: float32, in which policies compute, is too coarse for "
            "numbers of this size that vary by so little, and steps between frames are lost: say "
            "convert: range_to_unit for these columns in the task, or subtract an offset before"
        )


def _named(feature: Feature, key: str, number: int) -> str:
    names = feature.network_names
    return f"{key}[{number}]" + (f" ({names[number]})" if names else "")

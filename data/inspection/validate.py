"""Whether a dataset can be trusted: every chunk read, every number looked at.

Problems are what training must not see; warnings are what a person should look at. Reading goes on
after a problem, so that one run lists them all, and stays within bounded memory.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.inspection.array_reading import ArrayReading, read_array
from dipole.data.inspection.column_summary import ColumnSummary, Outlier
from dipole.data.inspection.findings import Finding, Validation, column_text, counted, frame_text
from dipole.data.inspection.lag_check import LagCheck
from dipole.data.inspection.other_formats import refuse_other_format
from dipole.data.inspection.recording_checks import MOST_NUMBERS, Recording, key_of, run_checks
from dipole.data.inspection.rotation_checks import (
    MatrixCheck,
    QuaternionCheck,
    RotationVectorCheck,
    WrapCheck,
)
from dipole.data.inspection.task_checks import task_warnings
from dipole.data.inspection.timing_checks import ClockCheck, FrozenCameraCheck, IdleCheck
from dipole.data.loading.window_spec import WindowSpec
from dipole.data.store.bundle import dataset_path
from dipole.data.store.lazy_array import LazyArray
from dipole.data.store.metadata import StoreMetadata
from dipole.data.store.objects.url import DatasetPath
from dipole.data.store.reading import (
    ends_problems,
    length_problems,
    nested_arrays,
    no_arrays,
    read_arrays,
    read_episode_ends,
    read_store_metadata,
    read_tasks,
    read_videos,
    refuse_claimed_fill,
)
from dipole.data.store.schema import FrameSchema
from dipole.data.store.zarr.tree import Tree, open_tree

__all__ = ["Finding", "Validation", "validate"]

MOST_OUTLIERS = 3  # dimensions of an array that are listed
CHECKS = (
    QuaternionCheck,
    RotationVectorCheck,
    MatrixCheck,
    WrapCheck,
    ClockCheck,
    FrozenCameraCheck,
    LagCheck,
    IdleCheck,
)


def validate(path: str | DatasetPath, log: Callable[[str], object] = lambda _: None) -> Validation:
    """Everything that is wrong or odd with the dataset at `path`; log: told which array is read.

    Never raises DataError: a dataset that cannot be opened is a finding too.
    """
    result = Validation(str(path))
    try:
        refuse_other_format(path)
        with closing(open_tree(dataset_path(path))) as files:
            _check_all(result, files, log)
    except DataError as error:
        result.problem("files", str(error))
    return result


def _check_all(result: Validation, files: Tree, log: Callable[[str], object]) -> None:
    metadata = _try(result, "attributes", lambda: read_store_metadata(files)) or StoreMetadata()
    ends = _try(result, "meta/episode_ends", lambda: read_episode_ends(files))
    arrays = _read_arrays(result, files, metadata)
    if ends is not None:
        videos, unreadable = read_videos(files, metadata, ends)
        for reason in unreadable.values():
            result.problem("videos", reason)
        arrays = {**arrays, **videos}
        if not ends_problems(ends):
            tasks = _try(result, "tasks", lambda: read_tasks(files, metadata, ends))
            result.warning("tasks", *(task_warnings(tasks, ends) if tasks is not None else ()))
        _check_episodes(result, arrays, ends)
    refuse_claimed_fill(arrays)
    _check_keys(result, arrays, metadata)
    readings = {}
    for key, array in arrays.items():
        log(f"reading {key}")
        known = np.zeros(0, np.int64) if ends is None else ends
        said = metadata.frames.get(key, FrameSchema())
        readings[key] = read_array(array, known, said.kind)
        _note_reading(result, key, array, readings[key], known)
    if ends is not None and not ends_problems(ends) and not length_problems(arrays, ends):
        log("looking at episodes")
        _check_recording(result, arrays, readings, metadata, ends)


def _try(result: Validation, where: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except DataError as error:
        result.problem(where, str(error))
        return None


def _read_arrays(result: Validation, files: Tree, metadata: StoreMetadata) -> dict[str, LazyArray]:
    arrays, unreadable = read_arrays(files, metadata)
    for key, reason in unreadable.items():
        result.problem(key, reason)
    for place, why in nested_arrays(files).items():
        result.warning("data", f"data/{place} is not read: {why}")
    if not files.folders("data"):
        result.problem("data", no_arrays(files))
    return dict(arrays)


def _check_episodes(result: Validation, arrays: Mapping[str, LazyArray], ends: np.ndarray) -> None:
    result.problem("meta/episode_ends", *ends_problems(ends))
    result.problem("lengths", *length_problems(arrays, ends).values())
    lengths = np.diff(ends, prepend=0)
    spec = WindowSpec()
    short = np.flatnonzero(spec.count(lengths) == 0)
    result.warning(
        "episodes",
        *(
            f"episode {e} has {lengths[e]} frames, too few for a window at 16/2/8: leave it out"
            for e in short
        ),
    )


def _check_keys(
    result: Validation, arrays: Mapping[str, LazyArray], metadata: StoreMetadata
) -> None:
    """The action, and what the attributes say of each array against what it is."""
    if "action" not in arrays:
        result.problem("action", f"no readable array data/action; there are {sorted(arrays)}")
    elif arrays["action"].ndim != 2:
        shape = list(arrays["action"].shape)
        result.problem("action", f"its shape is {shape}: [frames, dimensions] is needed")
    for key in metadata.frames:
        if key not in arrays:
            result.problem(key, "the schema describes it, but there is no readable array")
    for key, array in arrays.items():
        result.problem(key, *metadata.problems(key, array.shape[1:], array.dtype))


def _note_reading(
    result: Validation, key: str, array: LazyArray, reading: ArrayReading, ends: np.ndarray
) -> None:
    """What reading an array showed: chunks, NaN and infinities, its columns."""
    result.problem(key, *reading.unreadable)
    result.problem(
        key,
        *(
            f"{frame_text(frame, ends)} holds NaN or infinity: mend it or leave it out"
            for frame in reading.not_finite
        ),
    )
    if reading.empty:
        first = frame_text(reading.empty[0], ends)
        frames = counted(len(reading.empty), "frame")
        result.warning(
            key,
            f"all pixels are 0 in {frames}, first in {first}: the camera saw no depth. Leave those "
            "episodes out",
        )
    summary, shape = reading.summary, array.shape[1:]
    if summary is None or not summary.seen:
        return
    constant, value = summary.constant()
    result.warning(
        key,
        *(
            f"dimension {column_text(column, shape)} is always {value[column]:g}: there is nothing "
            "to learn"
            for column in constant
        ),
    )
    result.warning(key, *_outliers(summary, shape, ends))


def _outliers(summary: ColumnSummary, shape: tuple[int, ...], ends: np.ndarray) -> Iterator[str]:
    """The farthest of each dimension, farthest first; and in how many dimensions more."""
    farthest: dict[int, Outlier] = {}
    for each in sorted(summary.outliers(), key=lambda each: each.reach, reverse=True):
        farthest.setdefault(each.column, each)
    for o in list(farthest.values())[:MOST_OUTLIERS]:
        yield (
            f"dimension {column_text(o.column, shape)} is {o.value:g} in "
            f"{frame_text(o.frame, ends)}, but half its values are in [{o.low:g}, {o.high:g}]: "
            "'limits' would stretch to include it. Where it is a mistake leave the episode out, "
            "otherwise normalize: quantiles"
        )
    if len(farthest) > MOST_OUTLIERS:
        yield f"and so in {len(farthest) - MOST_OUTLIERS} more dimensions"


def _check_recording(
    result: Validation,
    arrays: Mapping[str, LazyArray],
    readings: Mapping[str, ArrayReading],
    metadata: StoreMetadata,
    ends: np.ndarray,
) -> None:
    """Rotations, clocks, cameras, lags, idle time: of what is sound."""
    numbers, keys = {}, {}
    for key, reading in readings.items():
        summary, array = reading.summary, arrays[key]
        small = array.ndim <= 3 and int(np.prod(array.shape[1:])) <= MOST_NUMBERS
        if reading.sound and summary is not None and summary.seen and small:
            numbers[key] = array
            keys[key] = key_of(key, array, metadata.frames.get(key), *summary.extremes)
    repeats = {key: reading.repeats for key, reading in readings.items() if reading.repeats}
    recording = Recording(keys, ends, metadata.fps, repeats)
    checks = [check(recording) for check in CHECKS]
    grouped: dict[str, list[str]] = {}
    for where, message in run_checks(recording, numbers, checks):
        grouped.setdefault(where, []).append(message)
    for where, messages in grouped.items():
        result.warning(where, *messages)

"""What the page says of the dataset as a whole."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.memory import format_bytes
from dipole.data.core.units import units_text
from dipole.data.inspection.summary import summarize
from dipole.data.inspection.validate import validate
from dipole.data.store.store import EpisodeStore
from dipole.data.view.images import camera_shape
from dipole.data.view.numbers import MOST_COLUMNS
from dipole.data.view.ranges import ranges

LENGTH_BINS = 32
MOST_FINDINGS = 200
MOST_TEXT = 200  # characters of a text that the dataset says of itself
MOST_TASKS = 20  # that are listed
MOST_MESSAGE = 1000
LARGEST_VALIDATED = 8 * 2**30  # bytes in memory: past this, validation is a command of its own


def dataset_facts(store: EpisodeStore, log: Callable[[str], None]) -> dict[str, Any]:
    """Plain JSON: what `dipole data info` prints, how long episodes are, what validation finds."""
    info = summarize(store, fingerprint=_fingerprint(store))
    said = info.to_dict()
    return {
        "name": short(store.path.name),
        "episodes": info.episodes,
        "frames": info.frames,
        "seconds": info.seconds,
        "fps": info.fps,
        "lengths": {**info.episode_lengths, **_length_histogram(store)},
        "environment": " ".join(short(value) for value in info.environment.values()),
        "tasks": [short(task) for task in info.tasks if task][:MOST_TASKS],
        "windows": info.windows,
        "fingerprint": info.fingerprint,
        "arrays": [{**array, "size": format_bytes(array["n_bytes"])} for array in said["arrays"]],
        "validation": _validation(store, log),
    }


def number_keys(store: EpisodeStore, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """The keys that are plotted, actions first: columns, their names where known, their ranges."""
    keys = [key for key in sorted(store.arrays) if not is_camera(store, key)]
    kinds = {key: store.schema(key)["kind"] for key in keys}
    described = []
    for key in sorted(keys, key=lambda key: (kinds[key] != "action", key)):
        log(f"reading the ranges of {key}")
        array, found = store[key], ranges(store[key])
        columns = int(np.prod(array.shape[1:], dtype=np.int64))
        described.append(
            {
                "key": key,
                "kind": short(kinds[key]),
                "units": short(units_text(store.schema(key)["units"])),
                "columns": columns,
                "shown": min(columns, MOST_COLUMNS),
                "names": column_names(store, key, columns)[:MOST_COLUMNS],
                "ranges": found.to_list(),
                "unreadable": found.unreadable,
            }
        )
    return described


def is_camera(store: EpisodeStore, key: str) -> bool:
    """Whether frames of `key` are shown as images."""
    schema = store.schema(key)
    return camera_shape(schema["kind"], schema["shape"]) is not None


def column_names(store: EpisodeStore, key: str, columns: int) -> list[str]:
    """Names of a key's columns where its schema gives one for each, else their places: "(3, 1)"."""
    said = (store.attributes.get("schema") or {}).get(key, {}).get("names")
    names = [short(name) for name in _flat(said)]
    if len(names) == columns:
        return names
    shape = store[key].shape[1:]
    if len(shape) < 2:
        return [str(column) for column in range(columns)]
    first = range(min(columns, MOST_COLUMNS))
    return [", ".join(str(int(i)) for i in np.unravel_index(column, shape)) for column in first]


def short(value: Any) -> str:
    """A text of a dataset's own, cut where it is no longer a name."""
    text = str(value)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def without_path(store: EpisodeStore, message: str) -> str:
    """A page is sent to others: it names the dataset, not the folders of whoever made it."""
    return message.replace(str(store.path), store.path.name)[:MOST_MESSAGE]


def _flat(names: Any) -> list[Any]:
    """Names in nested lists, as LeRobot writes them, one after the other."""
    waiting, found = [names], []
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            waiting += reversed(entry.values())
        elif isinstance(entry, list):
            waiting += reversed(entry)
        elif entry is not None:
            found.append(entry)
    return found


def _length_histogram(store: EpisodeStore) -> dict[str, Any]:
    lengths = np.diff(store.episode_ends, prepend=0)
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // LENGTH_BINS)  # whole frames, so that no bin is luckier
    bins = (high - low) // width + 1
    counts = np.bincount((lengths - low) // width, minlength=bins)
    return {"bin_width": width, "histogram": [int(count) for count in counts]}


def _fingerprint(store: EpisodeStore) -> str:
    try:
        return store.fingerprint()
    except DataError:
        return "none: it is taken from frames that cannot be read"


def _validation(store: EpisodeStore, log: Callable[[str], None]) -> dict[str, Any]:
    n_bytes = sum(array.nbytes for array in store.arrays.values())
    if n_bytes > LARGEST_VALIDATED:
        return {"skipped": f"{format_bytes(n_bytes)} were too much to read for a page"}
    found = validate(store.path, log)
    return {
        "problems": len(found.problems),
        "warnings": len(found.warnings),
        "findings": [
            {"level": f.level, "where": short(f.where), "message": without_path(store, f.message)}
            for f in [*found.problems, *found.warnings][:MOST_FINDINGS]
        ],
    }

"""`features` of meta/info.json as the schema of frames; what is not taken, and why."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.units import Units, read_units
from dipole.data.store.schema import FrameSchema, check_key

COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
COPY_OF = "copy_of"  # in a feature's info: of which feature our own export wrote it a second time
_LARGEST = 2**31  # numbers in a frame
_TEXT = ("string", "language", "audio")


class NotTakenError(ValueError):
    """A feature that cannot be taken; the message is the reason."""


def frame_schemas(
    path: Path, features: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, FrameSchema], dict[str, str]]:
    """The schema by key, and why the other keys are left out; counters are in neither.

    path: Of the dataset, for errors. Raises DataError for a key that names another folder.
    """
    frames: dict[str, FrameSchema] = {}
    left_out: dict[str, str] = {}
    for key, feature in features.items():
        if key in COUNTERS:
            continue
        refuse_path(path, key)
        try:
            frames[key] = _schema(key, feature)
        except NotTakenError as reason:
            left_out[key] = str(reason)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            left_out[key] = f"its description in meta/info.json is damaged ({error!r})"
    return frames, left_out


def refuse_path(path: Path, key: str) -> None:
    """Raise DataError for a key that would name a file elsewhere."""
    if re.search(r"[/\\\0]", key) or key.startswith("."):
        raise DataError(
            f"{path}: meta/info.json names a feature {key!r}, which would be a file outside its "
            "folder. Rename the feature, if you trust the dataset"
        )


def is_depth(feature: Mapping[str, Any]) -> bool:
    """Whether a picture or video is declared as depth."""
    info = feature_info(feature)
    return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))


def feature_info(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """What info.json says of a feature beside its shape and dtype."""
    info = feature.get("info") or feature.get("video_info") or {}
    return info if isinstance(info, dict) else {}


def _schema(key: str, feature: Mapping[str, Any]) -> FrameSchema:
    try:
        check_key("features", key)
    except DataError as error:
        raise NotTakenError(f"{error}. Rename it in meta/info.json") from error
    copy_of = feature_info(feature).get(COPY_OF)
    if copy_of:
        raise NotTakenError(f"it is a copy of {copy_of}")
    dtype_name = feature["dtype"]
    if dtype_name in _TEXT:
        raise NotTakenError("text and sound are not stored")
    shape = _shape(feature["shape"])
    names = feature.get("names")
    if dtype_name in ("image", "video"):
        return _picture(dtype_name, shape, feature)
    dtype = np.dtype(dtype_name)
    if dtype.kind not in "biuf":
        raise NotTakenError(f"dtype {dtype_name!r} is none of numbers")
    entries = tuple(flat_names(names))
    kind = "action" if key == "action" else "state"
    named = entries if (len(entries),) == shape else ()
    return FrameSchema(shape, dtype, kind, _units(feature, shape), named)


def _units(feature: Mapping[str, Any], shape: tuple[int, ...]) -> Units:
    """Units as our own export writes them; LeRobot has none."""
    units = read_units(feature_info(feature).get("units"))
    return units if isinstance(units, str) or shape[-1:] == (len(units),) else ""


def _picture(dtype_name: str, shape: tuple[int, ...], feature: Mapping[str, Any]) -> FrameSchema:
    shape = height_first(shape, feature.get("names"))
    if not is_depth(feature):
        storage = "video" if dtype_name == "video" else ""
        return FrameSchema(shape, np.dtype(np.uint8), "image", storage=storage)
    if dtype_name == "video":
        raise NotTakenError(
            "depth as video is not read: its numbers are quantised. Record depth as pictures "
            "(in LeRobot: dtype 'image' with info {'is_depth_map': true}), or leave it out"
        )
    if shape[-1] != 1:
        raise NotTakenError(f"depth has one channel, not shape {list(shape)}")
    units = str(feature_info(feature).get("depth_unit") or "")
    # Looked up in the first picture; LeRobot's own are float32 in metres or uint16 in millimetres.
    dtype = np.dtype(np.float32 if units == "m" else np.uint16)
    return FrameSchema(shape, dtype, "depth", units=units)


def _shape(declared: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in declared)
    if any(n <= 0 for n in shape) or math.prod(shape) >= _LARGEST:
        raise NotTakenError(f"frames of shape {list(shape)}")
    return shape


def height_first(shape: tuple[int, ...], names: Any) -> tuple[int, ...]:
    """[height, width, channels], also of pictures that are declared channels first."""
    if len(shape) != 3:
        raise NotTakenError(
            f"a picture of shape {list(shape)}; [height, width, channels] is needed"
        )
    words = flat_names(names)
    named_first = words[:1] in (["channels"], ["channel"], ["c"])
    looks_first = shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
    return (*shape[1:], shape[0]) if named_first or looks_first else shape


def flat_names(names: Any) -> list[str]:
    """Names as one list; they are a list, lists in a list, a table of lists or of positions.

    >>> flat_names({"motors": ["pan", "tilt"]}), flat_names({"tilt": 1, "pan": 0}), flat_names(None)
    (['pan', 'tilt'], ['pan', 'tilt'], [])
    """
    if isinstance(names, dict):
        if names and all(type(place) is int for place in names.values()):
            return [str(name) for name in sorted(names, key=lambda name: names[name])]
        names = list(names.values())
    if not isinstance(names, list):
        return []
    return [
        word for n in names for word in (flat_names(n) if isinstance(n, list | dict) else [str(n)])
    ]

"""What the exported dataset calls each key, and what its info.json says of it.

    state                    observation.state
    environment_state        observation.environment_state, as env_state and object
    a camera or depth `top`  observation.images.top
    anything else            observation.<key>; action and keys that begin as LeRobot's stay

LeRobot's diffusion policy sees pictures or `observation.environment_state` beside
`observation.state`. Where a dataset has neither, the state is written under both names, and the
second is marked as a copy, which our own reader leaves out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.units import units_text
from dipole.data.sources.lerobot.features import COPY_OF, COUNTERS
from dipole.data.store.objects.url import DatasetPath
from dipole.data.store.schema import FrameSchema, check_key

STATE, ENVIRONMENT_STATE = "observation.state", "observation.environment_state"
_ENVIRONMENT = ("environment_state", "env_state", "object")
_OWN = ("observation.", "next.", "action.")


def lerobot_keys(path: DatasetPath, frames: Mapping[str, FrameSchema]) -> dict[str, str]:
    """LeRobot's name of each key. path: of the source, for errors.

    Raises DataError for two keys with one name, and for one that cannot be the name of a file.
    """
    names = {key: lerobot_key(key, schema) for key, schema in frames.items()}
    for key, name in names.items():
        for word in (key, name):
            check_key(f"{path}: cannot be exported", word)
        if name in COUNTERS:
            raise DataError(f"{path}: {key!r} cannot be exported: LeRobot counts by that name")
        same = [other for other, taken in names.items() if taken == name]
        if len(same) > 1:
            raise DataError(
                f"{path}: {' and '.join(map(repr, same))} would both be {name!r} in LeRobot; "
                "rename one of them, or leave it out"
            )
    return names


def lerobot_key(key: str, schema: FrameSchema) -> str:
    """The name of one key by LeRobot's convention."""
    if key == "action" or key.startswith(_OWN):
        return key
    if schema.kind in ("image", "depth"):
        return f"observation.images.{key}"
    flat = len(schema.shape or ()) <= 1
    return ENVIRONMENT_STATE if key in _ENVIRONMENT and flat else f"observation.{key}"


def is_8_bit_image(schema: FrameSchema) -> bool:
    """Whether frames are pictures of 8 bits a channel."""
    shape = schema.shape or ()
    sound = len(shape) == 3 and shape[-1] in (1, 3, 4)
    return schema.kind == "image" and schema.dtype == np.uint8 and sound


def features(
    frames: Mapping[str, FrameSchema], names: Mapping[str, str], videos: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """`features` of info.json. names: LeRobot's; videos: for each key that is video, its `info`."""
    declared = {names[key]: _feature(schema, videos.get(key)) for key, schema in frames.items()}
    seen = any(entry["dtype"] in ("image", "video") for entry in declared.values())
    if STATE in declared and ENVIRONMENT_STATE not in declared and not seen:
        info = {**declared[STATE].get("info", {}), COPY_OF: STATE}
        declared[ENVIRONMENT_STATE] = {**declared[STATE], "info": info}
    counter = {"shape": [1], "names": None}
    declared["timestamp"] = {"dtype": "float32", **counter}
    return declared | {name: {"dtype": "int64", **counter} for name in COUNTERS[1:]}


def _feature(schema: FrameSchema, video: Mapping[str, Any] | None) -> dict[str, Any]:
    shape = list(schema.shape or ()) or [1]
    if is_8_bit_image(schema):
        picture = {"dtype": "image", "shape": shape, "names": ["height", "width", "channels"]}
        return picture if video is None else {**picture, "dtype": "video", "info": dict(video)}
    if schema.kind == "depth":
        info = {"is_depth_map": True}
        unit = {"depth_unit": units_text(schema.units)} if schema.units else {}
        names = ["height", "width", "channels"]
        return {"dtype": "image", "shape": [*shape[:2], 1], "names": names, "info": info | unit}
    entry: dict[str, Any] = {
        "dtype": np.dtype(schema.dtype).name,
        "shape": shape,
        "names": list(schema.names) or None,
    }
    if schema.units:
        units = schema.units if isinstance(schema.units, str) else list(schema.units)
        entry["info"] = {"units": units}
    return entry


def copies(declared: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Features that are written a second time: the copy → what it is a copy of."""
    infos = {name: entry.get("info") or {} for name, entry in declared.items()}
    return {name: str(info[COPY_OF]) for name, info in infos.items() if COPY_OF in info}

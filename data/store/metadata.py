"""What a dataset says of itself: the attributes of its root group, checked in one place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.schema import FrameSchema, check_key

OWN = ("dipole_format", "schema", "fps", "environment", "tasks")  # what the format itself says
DELTA = "delta"  # what actions are of which nothing is said
FORMAT = 1  # of the attributes; raised when an older reader would misread a newer dataset


def _environment(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """With the kind of its actions, which early recordings say among their settings alone."""
    environment = dict(attributes.get("environment") or {})
    settings: Any = attributes
    for name in ("recording", "environment", "options"):
        settings = settings.get(name) if isinstance(settings, Mapping) else None
    said = actions_of(settings) if isinstance(settings, Mapping) else DELTA
    return environment if said == DELTA else {"actions": said, **environment}


def actions_of(environment: Mapping[str, Any]) -> str:
    """What actions are, as a dataset's `environment` says it: "absolute", or "delta"."""
    said = environment.get("actions")
    return said if isinstance(said, str) else DELTA


class NewerFormatError(DataError):
    """A dataset that a newer version wrote."""


@dataclass(frozen=True)
class StoreMetadata:
    """Attributes of a store, typed.

    attributes: as they stand; format: 0 for a dataset that is not written by dipole; frames: what
    is said of each key; fps: frames a second, None where unknown; environment: `id` and `version`;
    words: what was to be done, which meta/task_index counts in, None where nothing is said.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    format: int = 0
    frames: Mapping[str, FrameSchema] = field(default_factory=dict)
    fps: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] | None = None

    @classmethod
    def of(cls, attributes: Any) -> "StoreMetadata":
        """Raises DataError for attributes that are not of the documented form, or newer."""
        if not isinstance(attributes, dict):
            raise DataError("its attributes are not an object")
        for name in ("schema", "environment"):
            if not isinstance(attributes.get(name) or {}, dict):
                raise DataError(f"attribute {name!r} is {attributes[name]!r}, not an object")
        said = attributes.get("schema") or {}
        return cls(
            attributes,
            _format(attributes.get("dipole_format")),
            {check_key("the schema", key): _frame(key, entry) for key, entry in said.items()},
            _fps(attributes.get("fps")),
            _environment(attributes),
            _words(attributes.get("tasks")),
        )

    def problems(self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[str]:
        """What does not fit between an array's frames and what is said of them, a sentence each."""
        said = self.frames.get(key)
        if said is None:
            return []
        found = []
        pairs = ((dtype, said.dtype), (shape, said.shape))
        if any(b is not None and a != b for a, b in pairs):
            says = [said.dtype and said.dtype.name, said.shape and list(said.shape)]
            found.append(
                f"the schema says {says}, the array is {[dtype.name, list(shape)]}: mend the "
                "attributes"
            )
        else:
            try:
                said.of(key, np.empty((0, *shape), dtype))
            except DataError as error:
                found.append(f"{error}: mend the attributes")
        if said.kind == "image" and dtype != np.uint8:
            found.append(f"an image of dtype {dtype.name}: images are uint8")
        return found


def _frame(key: str, entry: Any) -> FrameSchema:
    if not isinstance(entry, dict):
        raise DataError(f"the schema of {key!r} is {entry!r}, not an object")
    known = {name: entry[name] for name in FrameSchema.FIELDS if name in entry}
    try:
        return FrameSchema.from_dict(key, known)
    except DataError as error:
        raise DataError(f"the schema's {error}") from error


def _format(said: Any) -> int:
    if said is None:
        return 0
    if type(said) is not int or said < 1:
        raise DataError(f"attribute 'dipole_format' is {said!r}, not a number from 1 on")
    if said > FORMAT:
        raise NewerFormatError(
            f"dipole_format is {said}, and this version reads up to {FORMAT}: the dataset was "
            "written by a newer dipole. Update dipole: pip install --upgrade dipole"
        )
    return said


def _fps(said: Any) -> float | None:
    if said is None:
        return None
    if type(said) not in (int, float) or not 0 < said < math.inf:
        raise DataError(f"attribute 'fps' is {said!r}, not a positive number")
    return float(said)


def _words(said: Any) -> tuple[str, ...] | None:
    if said is None:
        return None
    if not isinstance(said, list) or not all(isinstance(word, str) for word in said):
        raise DataError("attribute 'tasks' is not a list of words")
    return tuple(said)

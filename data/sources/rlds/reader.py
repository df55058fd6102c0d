"""RLDS datasets, as TensorFlow Datasets writes them, as a source: TFRecord files in a folder.

Each record is an episode whose steps are flattened: steps/observation/image, steps/action, and so
on. steps/observation/<key> becomes <key>, steps/action becomes `action`, or action.<key> where it
is a dictionary; the episode's words are steps/language_instruction. features.json says the shapes;
without it they are told from the lengths. What is a step's place in the episode (is_first, is_last,
is_terminal) is left out, as is text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.json_files import read_json
from dipole.data.sources.encoded_images import decode_frame, image_shape
from dipole.data.sources.registry import sorted_by_number
from dipole.data.sources.rlds.tfrecord import (
    Feature,
    is_tfrecord,
    parse_example,
    read_record,
    record_places,
)
from dipole.data.sources.source import (
    EpisodeRef,
    SourceEpisode,
    SourceInfo,
    SourceWarnings,
    is_valid_key,
    leave_out,
)
from dipole.data.store.schema import FrameSchema
from dipole.data.store.tasks import TaskSpans

STEPS = "steps/"
COUNTED = ("is_first", "is_last", "is_terminal")
WORDS = ("language_instruction", "natural_language_instruction", "instruction")


def find_records(path: Path) -> list[Path]:
    """The TFRecord files at a path, by name and number; raises DataError for another file."""
    files = [path] if path.is_file() else sorted_by_number(path.glob("*.tfrecord*"))
    files = [file for file in files if ".tfrecord" in file.name and file.is_file()]
    if files and not is_tfrecord(files[0]):
        raise DataError(
            f"{files[0]}: not a TFRecord, or a compressed one: decompress it first (gunzip)"
        )
    return files


class RldsSource(SourceWarnings):
    """Reads the TFRecord file or folder at `path`; see `Source`."""

    def __init__(self, path: Path) -> None:
        files = find_records(path)
        if not files:
            raise DataError(f"{path}: no TFRecord files in it (*.tfrecord*)")
        self._path = path
        self._records = [(file, *place) for file in files for place in record_places(file)]
        if not self._records:
            raise DataError(f"{path}: there are no episodes")
        self._refs = [EpisodeRef(number) for number in range(len(self._records))]
        folder = path if path.is_dir() else path.parent
        declared = _declared_shapes(folder / "features.json")
        first = self._example(0)
        self._places, self._frames, left_out = _schemas(path, first, declared)
        self._known = set(first)
        super().__init__(SourceInfo(path, "RLDS", self._frames, left_out=left_out))

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        where = f"{self._path}: episode {ref.id}"
        features = self._example(ref.id)
        self.warn_of_others(features, self._known)
        return _Episode(ref, features, self._places, self._frames, where)

    def close(self) -> None:
        pass

    def _example(self, number: int) -> dict[str, Feature]:
        file, offset, length = self._records[number]
        content = read_record(file, offset, length, number)
        return parse_example(content, f"{file}: record {number}")


class _Episode:
    """An episode's features in memory; pictures are decoded, and keys checked, when they are read,
    so that a key that is not taken stands in nobody's way."""

    def __init__(
        self,
        ref: EpisodeRef,
        features: Mapping[str, Feature],
        places: Mapping[str, str],
        frames: Mapping[str, FrameSchema],
        where: str,
    ) -> None:
        self.ref, self._places, self._frames, self._where = ref, places, frames, where
        self.n_frames = _n_steps(features, where)
        self.tasks = _tasks(features)
        self._features = features

    def _feature(self, key: str) -> Feature:
        """Raises DataError where it is missing, or has another number of entries."""
        place, where = self._places[key], self._where
        feature = self._features.get(place)
        if feature is None:
            raise DataError(f"{where} has no {place}: {leave_out(key)}")
        expected = self.n_frames * self._size(key, feature)
        if len(feature) != expected:
            raise DataError(
                f"{where}: {place} has {len(feature)} entries, {expected} expected for "
                f"{self.n_frames} steps: {leave_out(key)}"
            )
        return feature

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        feature, schema = self._feature(key), self._frames[key]
        shape = schema.shape or ()
        if isinstance(feature, list):
            frames = [
                decode_frame(raw, shape, f"{self._where}, {key!r}, frame {start + n}")
                for n, raw in enumerate(feature[start:stop])
            ]
            return np.stack(frames) if frames else np.empty((0, *shape), np.uint8)
        size = self._size(key, feature)
        return feature[start * size : stop * size].reshape(stop - start, *shape)

    def clip(self, key: str) -> None:
        return None

    def _size(self, key: str, feature: Feature) -> int:
        """Entries of a feature that make a frame."""
        return 1 if isinstance(feature, list) else int(np.prod(self._frames[key].shape or ()))


def _n_steps(features: Mapping[str, Feature], where: str) -> int:
    """Steps of an episode, counted by what has one entry a step."""
    for name in (*COUNTED, "reward", "discount", *WORDS):
        feature = features.get(STEPS + name)
        if feature is not None and len(feature):
            return len(feature)
    pictures = [f for name, f in features.items() if name.startswith(STEPS) and isinstance(f, list)]
    if pictures and len(pictures[0]):
        return len(pictures[0])
    raise DataError(
        f"{where}: how many steps it has cannot be told: neither {', '.join(COUNTED)} nor rewards "
        "or pictures are in it, or there are none. It must be a dataset of RLDS, with steps/..."
    )


def _tasks(features: Mapping[str, Feature]) -> TaskSpans:
    """The spans of the words that the steps, or the episode, are given."""
    names = [prefix + name for prefix in (STEPS, f"{STEPS}observation/") for name in WORDS]
    names += [f"episode_metadata/{name}" for name in WORDS]
    for name in names:
        feature = features.get(name)
        if isinstance(feature, list) and feature:
            words = [raw.decode(errors="replace") for raw in feature]
            return tuple((n, word) for n, word in enumerate(words) if not n or word != words[n - 1])
    return ()


def _schemas(
    path: Path, first: Mapping[str, Feature], declared: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, str], dict[str, FrameSchema], dict[str, str]]:
    """By key, where its feature lies and its schema; and features not taken → why."""
    n_steps = _n_steps(first, f"{path}: episode 0")
    places: dict[str, str] = {}
    frames: dict[str, FrameSchema] = {}
    left_out: dict[str, str] = {}
    for place in sorted(first):
        name = place.removeprefix(STEPS)
        if name == place or name in COUNTED or name.split("/")[-1] in WORDS:
            continue
        key = _key(name)
        schema, why = _schema(key, first[place], n_steps, declared.get(place))
        if schema is None:
            left_out[name] = why
        elif key in places or not is_valid_key(key):
            left_out[name] = f"no key can be called {key!r}, or one is already"
        else:
            places[key], frames[key] = place, schema
    return places, frames, left_out


def _schema(
    key: str, feature: Feature, n_steps: int, shape: tuple[int, ...] | None
) -> tuple[FrameSchema | None, str]:
    if isinstance(feature, list):
        size = image_shape(feature[0]) if len(feature) == n_steps else None
        if size is None:
            return None, "text, or pictures in a format that is not read (PNG, JPEG, WebP, BMP are)"
        return FrameSchema(size, np.dtype(np.uint8), "image"), ""
    width, rest = divmod(len(feature), n_steps)
    if rest or not width:
        return None, f"{len(feature)} numbers do not go into {n_steps} steps"
    if shape is None or int(np.prod(shape)) != width:
        shape = (width,) if width > 1 or key == "action" else ()
    kind = "action" if key == "action" else "state"
    return FrameSchema(shape, feature.dtype.newbyteorder("="), kind), ""


def _key(name: str) -> str:
    return name.removeprefix("observation/").replace("/", ".")


def _declared_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the flattened features that features.json of TensorFlow Datasets declares."""
    if not file.is_file():
        return {}
    shapes: dict[str, tuple[int, ...]] = {}
    _collect(read_json(file), "", shapes)
    return shapes


def _collect(entry: Any, name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    if not isinstance(entry, dict):
        return
    features = _inside(entry, "featuresDict", "features")
    if isinstance(features, dict):
        for key, inner in features.items():
            _collect(inner, f"{name}/{key}".strip("/"), shapes)
    _collect(_inside(entry, "sequence", "feature"), name, shapes)
    if isinstance(entry.get("tensor"), dict):
        sizes = _inside(entry, "tensor", "shape", "dimensions") or []
        try:
            shape = tuple(int(n) for n in sizes)
        except (TypeError, ValueError, OverflowError):
            return
        if all(n > 0 for n in shape):
            shapes[name] = shape


def _inside(entry: Any, *names: str) -> Any:
    """What lies in objects within each other, None where one is absent or no object."""
    for name in names:
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry

"""Instructions as features: the words of a dataset's tasks, as bytes of a fixed length.

    "push left", shape [12]  ->  p u s h _ l e f t 0 0 0, uint8

So batches, checkpoints, exports and messages hold text as they hold pictures.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.loading.feature_reader import FeatureReader, FrameMap
from dipole.data.loading.features import Feature
from dipole.data.store.store import EpisodeStore


def encode_text(text: str, size: int) -> np.ndarray:
    """UTF-8 of a text, followed by zeros: uint8 [size]. Raises ConfigError for a longer one.

    >>> encode_text("left", 6).tolist()
    [108, 101, 102, 116, 0, 0]
    """
    encoded = text.encode()
    if len(encoded) > size:
        raise ConfigError(
            f"the text {text!r} has {len(encoded)} bytes, but the feature's shape is [{size}]: "
            "give the feature a larger shape"
        )
    if b"\0" in encoded:
        raise ConfigError(f"the text {text!r} has a null character: leave it out")
    return np.frombuffer(encoded.ljust(size, b"\0"), np.uint8).copy()


def encode_texts(texts: Sequence[str], n_frames: int, size: int) -> np.ndarray:
    """One text for each row, the same in each of its frames: uint8 [B, n_frames, size]."""
    rows = np.stack([encode_text(text, size) for text in texts])
    return np.repeat(rows[:, None], n_frames, 1)


def decode_text(encoded: Any) -> str:
    """The text of uint8 [size]."""
    return np.asarray(encoded, np.uint8).tobytes().rstrip(b"\0").decode(errors="replace")


class TextReader(FeatureReader):
    """Reads what was to be done in each frame, in words, as bytes."""

    def __init__(self, store: EpisodeStore, name: str, feature: Feature) -> None:
        self.feature, self.shape, self.key = feature, feature.shape, "task"
        self.where = f"{store.path}: feature {name!r}"
        if not any(store.task_words):
            raise DataError(
                f"{self.where}: no words of tasks are recorded there: leave the feature out, or "
                "record them"
            )
        try:
            table = [encode_text(words, feature.shape[0]) for words in store.task_words]
        except ConfigError as error:
            raise DataError(f"{self.where}: {error}") from error
        self._table = np.stack(table)  # [words, size]
        self._numbers = store.task_numbers()  # [frames]

    def mapped(self, map: FrameMap | None) -> FeatureReader:
        if map is not None:
            raise DataError(f"{self.where}: text has no numbers that could be mapped")
        return self

    @property
    def is_mapped(self) -> bool:
        return False

    @property
    def source_bytes(self) -> int:
        return self.frame_bytes

    @property
    def chunk_length(self) -> int:
        return 1

    @property
    def file_length(self) -> int:
        return 1

    @property
    def note(self) -> str | None:
        return None

    def transform_code(self) -> str | None:
        return ""

    def prefetch(self, frames: np.ndarray) -> None:
        """All words are in memory."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop): uint8 [stop - start, size]."""
        return np.asarray(self._table[self._numbers[start:stop]])

    def take(self, frames: np.ndarray) -> np.ndarray:
        """The frames with these numbers, int [...]: uint8 [..., size]."""
        return np.asarray(self._table[self._numbers[frames]])


def make_reader(store: EpisodeStore, name: str, feature: Feature) -> FeatureReader:
    """The reader of a feature; of an action that is stored as chunks, of what was done."""
    if feature.chunks:
        feature = replace(feature, source="action", chunks=False)
    reader = TextReader if feature.kind == "text" else FeatureReader
    return reader(store, name, feature)

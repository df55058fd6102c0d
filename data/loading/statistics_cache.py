"""Statistics of large datasets, kept in the user's cache folder so that they are computed once.

One small JSON file for each dataset, feature and choice of episodes, named by a hash of them all.
It is beside nothing that matters: one that cannot be read, written or trusted is computed again.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dipole.data.loading.statistics import Statistics

if TYPE_CHECKING:
    from dipole.data.loading.feature_reader import FeatureReader
    from dipole.data.loading.windows import Windows

CACHED_FROM = 32 * 2**20  # bytes of stored frames; less is read again in a moment
_FORMAT = "dipole statistics 1"
_ARRAYS = ("min", "max", "mean", "std", "q01", "q99")


@dataclass(frozen=True)
class StatisticsCache:
    """Of the features of one dataset's windows.

    folder: Where the files are; None: nothing is kept.
    """

    windows: "Windows"
    folder: Path | None

    @classmethod
    def of(cls, windows: "Windows") -> "StatisticsCache":
        """In $XDG_CACHE_HOME/dipole/statistics, by default ~/.cache/dipole/statistics."""
        try:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        except RuntimeError:  # no home
            return cls(windows, None)
        return cls(windows, Path(base) / "dipole" / "statistics")

    def get(self, reader: "FeatureReader", compute: Callable[[], Statistics]) -> Statistics:
        """The statistics of a feature, from its file where there is one."""
        path = self._path(reader)
        if path is None:
            return compute()
        kept = _read(path, reader.shape, self.windows.n_frames)
        if kept is not None:
            return kept
        found = compute()
        _write(path, found)
        return found

    def _path(self, reader: "FeatureReader") -> Path | None:
        n_bytes = reader.source_bytes * self.windows.n_frames
        code = reader.transform_code()
        if self.folder is None or n_bytes < CACHED_FROM or code is None or reader.is_mapped:
            return None
        feature = reader.feature
        described = [
            _FORMAT,
            self.windows.store.fingerprint(),
            self.windows.frame_ranges(),
            {**feature.to_dict(), "source": reader.key, "units": "", "names": [], "code": code},
        ]
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.json"


def source_code(function: Callable[..., Any]) -> str | None:
    """A hash of the file that defines a function, None where it cannot be read.

    So that statistics after a transform are computed again when it has been edited.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    try:
        return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()  # type: ignore[union-attr]
    except (AttributeError, OSError):
        return None


def _read(path: Path, shape: tuple[int, ...], count: int) -> Statistics | None:
    """What a file says, None where it is absent or not of the form that is written here."""
    try:
        said = json.loads(path.read_text())
        if said["format"] != _FORMAT or said["count"] != count or set(said) != _keys():
            return None
        arrays = {name: np.array(said[name], np.float64) for name in _ARRAYS}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    sound = all(array.shape == shape and np.isfinite(array).all() for array in arrays.values())
    ascending = ("min", "q01", "q99", "max")
    if not sound or (arrays["std"] < 0).any() or not _ordered([arrays[n] for n in ascending]):
        return None
    return Statistics(count=count, **arrays)


def _ordered(arrays: list[np.ndarray]) -> bool:
    """Whether each is at most the next, to single precision, in which frames are."""
    return all(
        bool((one <= other + 1e-5 * np.maximum(1, np.abs(other))).all())
        for one, other in pairwise(arrays)
    )


def _write(path: Path, found: Statistics) -> None:
    """Appears whole or not at all, whoever else writes the same; a full disk is no error."""
    said = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(found).items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"format": _FORMAT, **said}, file)
            os.replace(beside, path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError:
        return


def _keys() -> set[str]:
    return {"format", *(field.name for field in fields(Statistics))}

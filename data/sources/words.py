"""What a user asks of a conversion, as plain values, and the source that it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.metadata import with_missing_metadata
from dipole.data.sources.combine.mirrored import mirrored
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source
from dipole.data.sources.source import Source


@dataclass(frozen=True)
class ConversionRequest:
    """A conversion: where from, where to, and what is done on the way, in this order.

    source: The dataset, a path or "bundled:NAME".
    destination: Where it is written, a folder or a .zip.
    also: Further datasets with the same keys, whose episodes follow.
    fps: Frames a second of datasets that record none.
    environment: Where those were recorded that do not say it, such as "pusht".
    task: Words for the episodes that have none.
    rename: New names of keys, {"actions": "action"}.
    concatenate: Keys made of several, {"action": ("action.left", "action.right")}.
    dtype: Other dtypes of keys, {"action": "float32"}.
    keys: What is taken, by the new names; None for everything.
    episodes: Numbers of the episodes that are taken, those of `also` counted on; None for all.
    group: Names of subsets that the source records, such as robomimic's "train".
    mirror: Name of a mirror in which all episodes follow once more; "" for none.
    resample: Frames a second of the result; None for those of the source.
    trim: Seconds of standing still that are kept at either end of an episode; None for all.
    convert: Conversions of columns, {"action": "quaternion_to_6d"}.
    images: keep (video stays video, the rest is stored as zstd), zstd, jxl or jpeg.
    """

    source: str | Path
    destination: str | Path
    also: tuple[str | Path, ...] = ()
    fps: float | None = None
    environment: str = ""
    task: str = ""
    rename: Mapping[str, str] = field(default_factory=dict)
    concatenate: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dtype: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] | None = None
    episodes: tuple[int, ...] | None = None
    group: tuple[str, ...] = ()
    mirror: str = ""
    resample: float | None = None
    trim: float | None = None
    convert: Mapping[str, str] = field(default_factory=dict)
    images: str = "keep"


def open_request(request: ConversionRequest) -> Source:
    """The source that a request describes; raises DataError where it cannot be had."""
    parts = [_part(path, request) for path in (request.source, *request.also)]
    source = joined(parts)
    source = selected(source, None, request.episodes, request.group)
    if request.mirror:
        source = mirrored(source, request.mirror)
    return source


def _part(path: str | Path, request: ConversionRequest) -> Source:
    source = open_source(path)
    source = with_missing_metadata(source, request.fps, request.environment, request.task)
    return selected(source, request.keys)

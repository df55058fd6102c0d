"""What a user asks of a conversion, as plain values, and the source that it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dipole.data.sources.combine.concatenated import concatenated
from dipole.data.sources.combine.converted import converted, parse_convert
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.metadata import with_missing_metadata
from dipole.data.sources.combine.mirrored import mirrored
from dipole.data.sources.combine.renamed import renamed
from dipole.data.sources.combine.resampled import resampled
from dipole.data.sources.combine.resized import parse_resize, resized
from dipole.data.sources.combine.retyped import retyped
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.combine.shifted import shifted
from dipole.data.sources.combine.trimmed import parse_trim, trimmed
from dipole.data.sources.combine.uint8_images import with_uint8_images
from dipole.data.sources.registry import open_source
from dipole.data.sources.source import Source, frames_of


@dataclass(frozen=True)
class ConversionRequest:
    """A conversion: where from, where to, and what is done on the way, in this order.

    source: The dataset, a path or "bundled:NAME".
    destination: Where it is written, a folder or a .zip.
    fps: Frames a second of datasets that record none.
    environment: Where those were recorded that do not say it, such as "pusht".
    task: Words for the episodes that have none.
    rename: New names of keys, {"actions": "action"}.
    concatenate: Keys made of several, {"action": ("action.left", "action.right")}.
    dtype: Other dtypes of keys, {"action": "float32"}.
    keys: What is taken, by the new names; None for everything.
    resample: Frames a second of the result; None for those of the source.
    shift: Keys taken from later frames of the result, {"action": 1}, see `shifted`.
    resize: Sizes of pictures, "240x320" or "wrist=96x128", see `parse_resize`.
    also: Further datasets, with the same keys after all this, whose episodes follow.
    episodes: Numbers of the episodes that are taken, those of `also` counted on; None for all.
    group: Names of subsets that the source records, such as robomimic's "train".
    trim: Which idle time is cut out, "idle" or "idle:all", see `parse_trim`; "" for none.
    mirror: Name of a mirror in which all episodes follow once more; "" for none.
    convert: Conversions of columns, as "action:3-6=quaternion_to_6d", see `parse_convert`.
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
    shift: Mapping[str, int] = field(default_factory=dict)
    resize: tuple[str, ...] = ()
    trim: str = ""
    convert: tuple[str, ...] = ()
    images: str = "keep"


def open_request(request: ConversionRequest) -> Source:
    """The source that a request describes; raises DataError where it cannot be had."""
    source = joined([_part(path, request) for path in (request.source, *request.also)])
    if request.episodes is not None or request.group:
        source = selected(source, None, request.episodes, request.group)
    if request.trim:
        source = trimmed(source, parse_trim(request.trim))
    if request.mirror:
        source = mirrored(source, request.mirror)
    return converted(source, [parse_convert(word) for word in request.convert])


def _part(path: str | Path, request: ConversionRequest) -> Source:
    """One of the datasets, with the keys that are taken, by their new names."""
    source = open_source(path, kept=request.rename)
    source = with_missing_metadata(source, request.fps, request.environment, request.task)
    frames_of(source.info, list(request.rename))  # a misspelt name is an error, also if not taken
    needed = _needed(request)
    if needed is not None:
        source = selected(source, needed)
    names = {old: new for old, new in request.rename.items() if old in source.info.frames}
    source = renamed(source, names)
    source = concatenated(source, _made(request))
    source = retyped(source, request.dtype)
    if request.keys is not None:
        source = selected(source, request.keys)
    source = with_uint8_images(source)
    if request.resample is not None:
        source = resampled(source, request.resample)
    source = shifted(source, request.shift)
    return resized(source, parse_resize(request.resize))


def _made(request: ConversionRequest) -> dict[str, tuple[str, ...]]:
    """The concatenated keys that are taken."""
    made = request.concatenate.items()
    return {key: parts for key, parts in made if request.keys is None or key in request.keys}


def _needed(request: ConversionRequest) -> list[str] | None:
    """The keys, by the source's names, that the keys taken are made of; None for all."""
    if request.keys is None:
        return None
    old_names = {new: old for old, new in request.rename.items()}
    parts = [part for key in request.keys for part in request.concatenate.get(key, (key,))]
    return list(dict.fromkeys(old_names.get(part, part) for part in parts))

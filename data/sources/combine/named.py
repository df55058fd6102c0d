"""A source without the keys whose names no dataset can have, such as "eef quat" or "Größe"."""

from collections.abc import Collection
from dataclasses import replace

from dipole.data.sources.combine.wrapped import WrappedSource
from dipole.data.sources.source import Source, is_valid_key


def without_odd_names(source: Source, kept: Collection[str] = ()) -> Source:
    """The source, keys of odd names left out with the reason, but for those of `kept`, which are to
    be renamed."""
    info = source.info
    odd = {key for key in info.frames if not is_valid_key(key)} - set(kept)
    if not odd:
        return source
    why = {
        key: "its name has other characters than letters, digits, '_', '-', '.': take it by "
        f"--rename '{key}=NAME'"
        for key in sorted(odd)
    }
    return WrappedSource(
        source,
        replace(
            info,
            frames={key: frame for key, frame in info.frames.items() if key not in odd},
            absent={key: ids for key, ids in info.absent.items() if key not in odd},
            left_out={**info.left_out, **why},
        ),
    )

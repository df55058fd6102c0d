"""A dataset and its mirror image: twice the demonstrations, where a task has a mirror symmetry.

Where a scene and its mirror image obey the same laws, a demonstration on the left is one on the
right too. Which numbers change, and how, is known by whoever knows the task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.core.registry import Registry, nearest
from dipole.data.sources.combine.joined import JoinedSource
from dipole.data.sources.source import Source, SourceEpisode, SourceInfo
from dipole.data.store.video import Clip

Reflect = Callable[[np.ndarray], np.ndarray]  # frames [N, *shape] -> the same, in the mirror


@dataclass(frozen=True)
class Reflection:
    """What a mirror does to a key's frames; shape: of those that it understands, None for any."""

    reflect: Reflect
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Mirror:
    """By key, what is done to its frames. environment: whose mirror it is, where that is recorded;
    empty for any."""

    reflections: Mapping[str, Reflection]
    environment: str = ""


# Whoever knows what a key means registers here, e.g. dipole.envs.
MIRRORS: Registry[Mirror] = Registry("mirror")
ACTION = {"action"}
OWN = "For a mirror of your own see docs/data-import.md, joining and mirroring"


def with_mirror_image(source: Source, name: str, about: SourceInfo | None = None) -> JoinedSource:
    """All episodes of `source`, and after them each of them in the mirror `name`.

    about: what to take of the source, as `Selection.of` gives it; None for everything. Raises
    DataError for what this mirror does not understand, by environment, key or shape, and for video,
    which is not drawn anew; ConfigError for a mirror that is not known.
    """
    about = about or source.about
    joined = JoinedSource([_Part(source, about), _InMirror(source, about, name)])
    joined.about = replace(joined.about, also=about.also, mirror=name)
    return joined


class _Part:
    """What `about` says of `source`; see `Source`."""

    def __init__(self, source: Source, about: SourceInfo) -> None:
        self._source, self.about = source, about

    def read(self, episode: SourceEpisode, key: str, start: int, stop: int) -> np.ndarray:
        return self._source.read(episode, key, start, stop)

    def clip(self, episode: SourceEpisode, key: str) -> Clip | None:
        return self._source.clip(episode, key)


class _InMirror(_Part):
    """The same as it looks in a mirror."""

    def __init__(self, source: Source, about: SourceInfo, name: str) -> None:
        super().__init__(source, about)
        self._mirror = MIRRORS[name]
        _check(about, self._mirror, name)

    def read(self, episode: SourceEpisode, key: str, start: int, stop: int) -> np.ndarray:
        frames = super().read(episode, key, start, stop)
        return self._mirror.reflections[key].reflect(frames).astype(frames.dtype, copy=False)

    def clip(self, episode: SourceEpisode, key: str) -> Clip | None:
        return None


def _check(about: SourceInfo, mirror: Mirror, name: str) -> None:
    recorded = str(about.environment.get("id", ""))
    if mirror.environment and recorded and recorded != mirror.environment:
        raise DataError(
            f"{about.path}: recorded in {recorded!r}, and mirror={name} is that of "
            f"{mirror.environment!r}. {OWN}"
        )
    known = [key for key in about.frames if key in mirror.reflections]
    for key, schema in about.frames.items():
        if key not in mirror.reflections:
            hint = nearest(key, mirror.reflections)
            take = f"Take what it knows by keys={','.join(known)}. " if set(known) - ACTION else ""
            raise DataError(
                f"{about.path}: mirror={name} does not know {key!r}{hint or '.'} {take}{OWN}"
            )
        if schema.storage == "video":
            raise DataError(
                f"{about.path}: {key!r} is video, which has no mirror image yet: convert it with "
                "images=zstd first, and mirror what comes out"
            )
        shape = mirror.reflections[key].shape
        if shape is not None and schema.shape != shape:
            raise DataError(
                f"{about.path}: {key!r} has frames of shape {list(schema.shape or ())}, and "
                f"mirror={name} understands {list(shape)}. {OWN}"
            )

"""A dataset and its mirror image: twice the demonstrations, where a task has a mirror symmetry.

Where a scene and its mirror image obey the same laws, a demonstration on the left is one on the
right too. Which numbers change, and how, is known by whoever knows the task.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import Registry, nearest
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo
from dipole.data.store.labels import TEACHER_CHUNK, valid_key
from dipole.data.store.metadata import actions_of
from dipole.data.store.numbers import without_seed
from dipole.data.store.tasks import TaskSpans

Reflect = Callable[[np.ndarray], np.ndarray]  # frames [N, *shape] -> the same, in the mirror


@dataclass(frozen=True)
class Reflection:
    """What a mirror does to a key's frames; shape: of those that it understands, None for any."""

    reflect: Reflect
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Mirror:
    """What changes in a mirror.

    reflections: By key, what is done to its frames; to executed actions and those of a teacher
        what is done to actions.
    environment: Whose mirror it is, where that is recorded: an environment, or a family, whose
        tasks are all meant; empty for any.
    actions: What its actions are, "delta" where recordings say nothing of them; empty for any.
    swaps: Pairs of words in tasks that change places: left and right, unless said otherwise.
    """

    reflections: Mapping[str, Reflection]
    environment: str = ""
    actions: str = ""
    swaps: tuple[tuple[str, str], ...] = (("left", "right"),)

    def __post_init__(self) -> None:
        if "action" in self.reflections:
            own = self.reflections["action"]
            chunks = Reflection(partial(_reflected_chunks, own.reflect))
            derived = {EXECUTED: own, TEACHER_CHUNK: chunks, VALID: Reflection(np.copy)}
            known = {**derived, **self.reflections}
            object.__setattr__(self, "reflections", known)

    def words(self, text: str) -> str:
        """A task's words as they are in the mirror.

        >>> Mirror({}).words("Put the LEFT cup right of the leftmost plate")
        'Put the RIGHT cup left of the rightmost plate'
        """
        other = {one: two for pair in self.swaps for one, two in (pair, pair[::-1])}
        if not other:
            return text
        found = "|".join(map(re.escape, sorted(other, key=len, reverse=True)))
        pattern = rf"(?<![A-Za-z])({found})(?=(?:most|wards?|hand(?:ed)?)?(?![A-Za-z]))"
        swap = lambda match: _in_case_of(match[1], other[match[1].lower()])  # noqa: E731
        return re.sub(pattern, swap, text, flags=re.IGNORECASE)


def _reflected_chunks(reflect: Reflect, chunks: np.ndarray) -> np.ndarray:
    """Chunks [N, H, A] of actions, each reflected as actions [N, A] are."""
    return reflect(chunks.reshape(-1, *chunks.shape[2:])).reshape(chunks.shape)


def _in_case_of(model: str, word: str) -> str:
    return word.upper() if model.isupper() else word.title() if model.istitle() else word


# Whoever knows what a key means registers here, e.g. dipole.envs.
MIRRORS: Registry[Mirror] = Registry("mirror")
EXECUTED, VALID = "executed_action", valid_key(TEACHER_CHUNK)
ACTION = {"action", EXECUTED, TEACHER_CHUNK, VALID}
OWN = "For a mirror of your own see docs/data-import.md, joining and mirroring"


def mirrored(source: Source, name: str) -> Source:
    """All episodes of `source`, and after them each of them in the mirror `name`.

    The words of tasks change sides too. Raises DataError for what this mirror does not understand,
    by environment, key or shape, and for video, which is not drawn anew; ConfigError for a mirror
    that is not known.
    """
    return joined([source, _InMirror(source, name)])


class _InMirror(WrappedSource):
    """The same as it looks in a mirror."""

    def __init__(self, source: Source, name: str) -> None:
        try:
            self._mirror = MIRRORS[name]
        except ConfigError as error:
            raise ConfigError(
                f"{error}. From Python, those of the simulators are known after `import "
                f"dipole.envs`. {OWN}"
            ) from None
        info = source.info
        _check(info, self._mirror, name)
        super().__init__(source, replace(info, history=(*info.history, f"mirror {name}")))

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        return _MirroredEpisode(self._source.open(ref), self._mirror)


class _MirroredEpisode(WrappedEpisode):
    def __init__(self, episode: SourceEpisode, mirror: Mirror) -> None:
        super().__init__(episode, replace(episode.ref, numbers=without_seed(episode.ref.numbers)))
        self._mirror = mirror

    @property
    def tasks(self) -> TaskSpans:
        return tuple((first, self._mirror.words(text)) for first, text in self._episode.tasks)

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        frames = self._episode.read(key, start, stop)
        return self._mirror.reflections[key].reflect(frames).astype(frames.dtype, copy=False)

    def clip(self, key: str) -> None:
        return None


def _within(environment: str, family: str) -> bool:
    return environment == family or environment.startswith(f"{family}/")


def _check(info: SourceInfo, mirror: Mirror, name: str) -> None:
    recorded = str(info.environment.get("id", ""))
    if mirror.environment and recorded and not _within(recorded, mirror.environment):
        raise DataError(
            f"{info.path}: recorded in {recorded!r}, and --mirror {name} is that of "
            f"{mirror.environment!r}. {OWN}"
        )
    actions = actions_of(info.environment)
    if recorded and mirror.actions and actions != mirror.actions:
        raise DataError(
            f"{info.path}: recorded with {actions} actions, and --mirror {name} is that of "
            f"{mirror.actions} ones. {OWN}"
        )
    known = [key for key in info.frames if key in mirror.reflections]
    for key, schema in info.frames.items():
        if key not in mirror.reflections:
            hint = nearest(key, mirror.reflections)
            take = (
                f"Take what it knows by --keys {','.join(known)}. " if set(known) - ACTION else ""
            )
            raise DataError(
                f"{info.path}: --mirror {name} does not know {key!r}{hint or '.'} {take}{OWN}"
            )
        if schema.storage == "video":
            raise DataError(
                f"{info.path}: {key!r} is video, which has no mirror image yet: convert it with "
                "--images zstd first, and mirror what comes out"
            )
        shape = mirror.reflections[key].shape
        if shape is not None and schema.shape != shape:
            raise DataError(
                f"{info.path}: {key!r} has frames of shape {list(schema.shape or ())}, and "
                f"--mirror {name} understands {list(shape)}. {OWN}"
            )

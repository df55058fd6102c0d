"""A dataset that is there already with a teacher's chunks at its own frames: needs no simulator.

What a demonstrator did is kept as it is; beside it lies what the teacher would have done there. The
teacher sees the keys that its own features are made of, by the names that it was trained on.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dipole.data.convert import ConversionReport, Progress, convert
from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.combine.uint8_images import with_uint8_images
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.registry import open_source
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo
from dipole.data.store.labels import TEACHER_CHUNK, valid_key
from dipole.data.store.metadata import actions_of
from dipole.data.store.numbers import SEED
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip
from dipole.envs.experts.teaching.acting import check_kind_of_actions
from dipole.envs.experts.teaching.labels import Labeller
from dipole.envs.experts.teaching.spec import TeachingSpec, check_same_action
from dipole.envs.rollout.rate import check_rate
from dipole.policy import Policy
from dipole.policy.checkpoint import find_checkpoint, read_config

LABELS = (TEACHER_CHUNK, valid_key(TEACHER_CHUNK))


def relabel(
    source: str | Path,
    destination: str | Path,
    teaching: TeachingSpec,
    episodes: tuple[int, ...] | None = None,
    progress: Progress = lambda done, total, what: None,
) -> ConversionReport:
    """Write a dataset with the teacher's chunks; those that are there already are replaced.

    source: Of any format that can be converted. episodes: Which are taken; None: all. An episode's
    noise is a function of its recorded seed, or else of its number: labels of a recording are drawn
    the same once more. Raises ConfigError where teacher and dataset do not fit.
    """
    opened = open_source(source)
    try:
        chosen = opened if episodes is None else selected(opened, None, episodes)
        return convert(labelled(chosen, teaching), Path(destination).expanduser(), "keep", progress)
    finally:
        opened.close()


def labelled(source: Source, teaching: TeachingSpec) -> Source:
    """The source with a teacher's chunks."""
    source, labeller = with_uint8_images(source), teaching.labeller()
    try:
        config = read_config(find_checkpoint(teaching.teacher))
        check_kind_of_actions(config, actions_of(source.info.environment), "the dataset's")
        _check(source.info, labeller.policy)
    except ConfigError as error:
        raise ConfigError(f"{source.info.path}: teacher {teaching.teacher}: {error}") from error
    return _Labelled(source, labeller, teaching)


def _check(info: SourceInfo, policy: Policy) -> None:
    features = policy.features
    check_rate(policy.features, info.fps)
    action = info.frames.get("action")
    if action is None or action.shape is None:
        raise ConfigError("the dataset has no actions of one shape")
    check_same_action(features.action, action.shape, action.units, "the dataset's")
    for key in _keys(policy):
        if key not in info.frames:
            raise ConfigError(
                f"it sees {key!r}{nearest(key, info.frames) or ';'} the dataset has "
                f"{', '.join(sorted(info.frames))}: rename by `dipole data convert --rename "
                f"OLD={key}`"
            )


def _keys(policy: Policy) -> list[str]:
    """The stored keys that the teacher has to see, words aside."""
    return [
        each.source or name
        for name, each in policy.features.observation.items()
        if each.kind != "text" and name not in policy.optional
    ]


class _Labelled(WrappedSource):
    def __init__(self, source: Source, labeller: Labeller, teaching: TeachingSpec) -> None:
        info, policy = source.info, labeller.policy
        self._labeller = labeller
        shape = (labeller.length, *policy.features.action.stored_shape)
        units = info.frames["action"].units
        frames = {key: schema for key, schema in info.frames.items() if key not in LABELS}
        frames[TEACHER_CHUNK] = FrameSchema(shape, np.dtype(np.float32), "action", units)
        if teaching.every > 1:
            frames[LABELS[1]] = FrameSchema((), np.dtype(bool), "state")
        history = (*info.history, f"labelled by {teaching}")
        super().__init__(source, replace(info, frames=frames, history=history))

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        known = frozenset(self._info.frames).difference(LABELS)
        return _LabelledEpisode(self._source.open(ref), self._labeller, known)


class _LabelledEpisode(WrappedEpisode):
    def __init__(self, episode: SourceEpisode, labeller: Labeller, known: frozenset[str]) -> None:
        super().__init__(episode)
        self._labeller, self._known = labeller, known

    @cached_property
    def _labels(self) -> Mapping[str, np.ndarray]:
        seen = self._labeller.policy.features.observation.items()
        keys = dict.fromkeys([*(each.source or name for name, each in seen), "action"])
        there = self._known.intersection(keys)  # what may be missing is looked at where it is there
        frames = {key: self._episode.read(key, 0, self.n_frames) for key in sorted(there)}
        seed = self.ref.numbers.get(SEED, self.ref.id)
        return self._labeller(frames, self.tasks, seed)

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        if key in LABELS:
            return self._labels[key][start:stop]
        return self._episode.read(key, start, stop)

    def clip(self, key: str) -> Clip | None:
        return None if key in LABELS else self._episode.clip(key)

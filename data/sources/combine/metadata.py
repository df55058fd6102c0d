"""What a dataset does not say of itself, said by its user: frame rate, environment, task."""

from collections.abc import Sequence
from dataclasses import replace

from dipole.data.core.errors import DataError
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo, task_spans
from dipole.data.store.tasks import TaskSpans


def with_missing_metadata(
    source: Source, fps: float | None = None, environment: str = "", task: str = ""
) -> Source:
    """The source with what it does not record of itself.

    fps: Frames a second. A source without a common rate (MCAP) is resampled to it.
    environment: Name of the simulator or robot.
    task: What was to be done, for the episodes that have no words.

    Raises DataError where the source records another rate or environment.
    """
    at_rate = getattr(source, "at_rate", None)
    if fps is not None and at_rate is not None:
        source = at_rate(fps)
    info = source.info
    if fps is not None and info.fps not in (None, fps):
        raise DataError(
            f"{info.path}: recorded at {info.fps:g} frames a second, not {fps:g}. To change the "
            "rate use resample"
        )
    recorded = info.environment.get("id")
    if environment and recorded not in (None, environment):
        raise DataError(f"{info.path}: recorded in {recorded!r}, not in {environment!r}")
    if fps in (None, info.fps) and not environment and not task:
        return source
    named = info.environment or ({"id": environment} if environment else {})
    said = (*info.history, f"task {task!r}") if task else info.history
    described = replace(info, fps=info.fps or fps, environment=named, history=said)
    return _WithTask(source, described, task)


class _WithTask(WrappedSource):
    def __init__(self, source: Source, info: SourceInfo, task: str) -> None:
        super().__init__(source, info)
        self._task = task

    def only(self, keys: Sequence[str]) -> Source:
        """See `selected`."""
        only = getattr(self._source, "only", None)
        if only is None:
            return self
        source = only(keys)
        info = replace(self._info, frames=source.info.frames, left_out=source.info.left_out)
        return _WithTask(source, info, self._task)

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        episode = self._source.open(ref)
        return _EpisodeWithTask(episode, self._task) if self._task else episode


class _EpisodeWithTask(WrappedEpisode):
    def __init__(self, episode: SourceEpisode, task: str) -> None:
        super().__init__(episode)
        self._task = task

    @property
    def tasks(self) -> TaskSpans:
        """Spans without words get the task's; those that have some keep them."""
        spans = self._episode.tasks or task_spans(self._task)
        return tuple((first, words or self._task) for first, words in spans)

"""An exported dataset, read back beside its source."""

from collections.abc import Mapping

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.source import Source, SourceEpisode, frame_ranges
from dipole.data.store.schema import FrameSchema
from dipole.data.store.tasks import TaskSpans
from dipole.data.store.video import PacketTable, VideoError, video_error


def compare(source: Source, written: Source, names: Mapping[str, str]) -> None:
    """Raise DataError where what was written differs from the source, or has fewer frames.

    names: Of the source's keys in `written`.
    """
    for ref, written_ref in zip(source.episodes(), written.episodes(), strict=True):
        episode, exported = source.open(ref), written.open(written_ref)
        place = f"{written.info.path}: episode {written_ref.id}"
        if merged(episode.tasks) != exported.tasks or episode.n_frames != exported.n_frames:
            raise DataError(f"{place}: its length or tasks were not written as they are")
        for key, schema in source.info.frames.items():
            _compare_frames(place, names[key], episode, exported, key, schema)


def merged(tasks: TaskSpans) -> TaskSpans:
    """Spans of which no two neighbours have the same words; () where there are no words."""
    spans = [span for n, span in enumerate(tasks) if n == 0 or span[1] != tasks[n - 1][1]]
    return tuple(spans) if any(words for _, words in spans) else ()


def _compare_frames(
    place: str,
    name: str,
    episode: SourceEpisode,
    exported: SourceEpisode,
    key: str,
    schema: FrameSchema,
) -> None:
    place = f"{place}, {name!r}"
    clip = exported.clip(name)
    if clip is not None:  # the packets themselves were copied
        try:
            PacketTable.of(clip.path).span(clip)
        except VideoError as error:
            raise video_error(place, error) from error
        return
    for start, stop in frame_ranges(schema, episode.n_frames):
        was = schema.fit(place, episode.read(key, start, stop))
        read = exported.read(name, start, stop).reshape(was.shape)
        if not np.array_equal(was, read):
            raise DataError(f"{place}: what was written reads differently. Check the disk")

"""An episode's video as LeRobot keeps it: the packets as they are, in a file of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dipole.data.export.lerobot.files import file_indices, file_name, whole_number
from dipole.data.export.lerobot.statistics import ImageStatistics
from dipole.data.sources.source import SourceEpisode
from dipole.data.store.schema import FrameSchema
from dipole.data.store.video import Clip, PacketTable, VideoError, VideoReader, cut, video_error

SAMPLED = 100  # pictures of an episode whose statistics are taken, evenly


def video_infos(
    episode: SourceEpisode, frames: Mapping[str, FrameSchema], fps: float
) -> dict[str, dict[str, Any]]:
    """For each key that is video in the first episode: what info.json says of it."""
    infos = {}
    for key, schema in frames.items():
        clip = episode.clip(key)
        if clip is None:
            continue
        height, width, channels = schema.shape or (0, 0, 3)
        infos[key] = {
            "video.height": height,
            "video.width": width,
            "video.codec": _codec(key, clip),
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": whole_number(fps),
            "video.channels": channels,
            "has_audio": False,
        }
    return infos


def _codec(key: str, clip: Clip) -> str:
    try:
        codec = PacketTable.of(clip.path).codec
    except VideoError as error:
        raise video_error(f"{clip.path}: {key!r}", error) from error
    return "av1" if "dav1d" in codec else codec


def write_video(
    root: Path, place: str, name: str, number: int, clip: Clip | None, fps: float
) -> tuple[dict[str, Any], ImageStatistics]:
    """Cut an episode's video into file `number`; what its row says of it, and its statistics.

    Raises DataError, beginning with `place`, where the file has not all the frames.
    """
    path = root / "videos" / name / file_name(number, "mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    statistics = ImageStatistics()
    try:
        if clip is None:
            raise VideoError("it is no video, as that of other episodes is")
        table = PacketTable.of(clip.path)
        offset = clip.start_frame - table.span(clip)[0]
        if not path.exists():
            cut(clip, path, fps, table)
        reader = VideoReader(open(path, "rb"))  # noqa: SIM115  the reader closes it
        try:
            step = max(len(clip) // SAMPLED, 1)
            for frame in reader.frames(range(offset, offset + len(clip), step)):
                statistics.add(frame[None])
        finally:
            reader.close()
    except VideoError as error:
        raise video_error(place, error) from error
    begin = offset / fps
    prefix = f"videos/{name}"
    times = {
        f"{prefix}/from_timestamp": begin,
        f"{prefix}/to_timestamp": begin + len(clip) / fps,
    }
    return times | file_indices(prefix, number), statistics

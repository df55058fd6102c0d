"""Conversion of other people's datasets into an episode store: whole, checked, and resumable.

Everything is written beside the destination, into `.NAME.partial`, and moved there when it has been
read back and found sound; of a destination in object storage in the cache's folder, and uploaded.
Killed at any instant, the next call with the same words goes on after the last whole file; with
other words it begins anew.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from dipole.data.convert.copying import EpisodeCopier, Progress
from dipole.data.convert.read_back import read_back
from dipole.data.convert.work_folder import conversion_identity, staged, work_folder
from dipole.data.core.errors import DataError
from dipole.data.sources.combine.selected import refuse_absent, refuse_repeated
from dipole.data.sources.combine.uint8_images import with_uint8_images
from dipole.data.sources.source import Source, SourceInfo
from dipole.data.sources.warning_lines import shortened
from dipole.data.sources.words import ConversionRequest, open_request
from dipole.data.store.array_appender import check_encoding
from dipole.data.store.bundle import dataset_path
from dipole.data.store.objects.upload import upload_store
from dipole.data.store.objects.url import DatasetPath, ObjectUrl
from dipole.data.store.partial_folder import pack_store, place_store
from dipole.data.store.writer import StoreWriter

__all__ = [
    "ConversionReport",
    "ConversionRequest",
    "Progress",
    "conversion_identity",
    "convert",
    "run",
    "work_folder",
]


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion wrote.

    path: The dataset that was written.
    format: Of the source.
    keys: What was taken, by the names it has now.
    left_out: Keys of the source that were not taken, and why.
    warnings: What was odd in the source, a few lines of each sort.
    """

    path: DatasetPath
    format: str
    keys: tuple[str, ...]
    n_episodes: int
    n_frames: int
    left_out: dict[str, str]
    warnings: tuple[str, ...]


def run(
    request: ConversionRequest, progress: Progress = lambda done, total, what: None
) -> ConversionReport:
    """Convert as requested; see `convert`."""
    source = open_request(request)
    try:
        return convert(source, dataset_path(request.destination), request.images, progress)
    finally:
        source.close()


def convert(
    source: Source,
    path: DatasetPath,
    images: str = "keep",
    progress: Progress = lambda done, total, what: None,
) -> ConversionReport:
    """Write a source to an episode store at `path`, a folder or a .zip, on the disk or in object
    storage.

    images: keep (video stays video, the rest is stored as zstd), zstd, jxl or jpeg.
    progress: Called with frames done, frames in all, and what is done now.

    Raises DataError, naming episode and frame, for what cannot be read, and where `path` exists.
    """
    if images != "keep":
        check_encoding(images)
    source = with_uint8_images(source)
    refuse_absent(source)
    refuse_repeated(source)
    _require_action(source.info)
    local = path if isinstance(path, Path) else staged(path)
    with work_folder(local, {"images": images, **conversion_identity(source)}) as work:
        writer = StoreWriter(work / "store", "zstd" if images == "keep" else images)
        EpisodeCopier(source, writer, images == "keep", progress).run()
        n_episodes, n_frames = writer.n_episodes, writer.n_frames
        progress(1, 1, "reading it back")
        try:
            read_back(writer.folder, n_frames)
        except DataError as error:
            shutil.rmtree(writer.folder)  # or every further attempt would find the same
            raise DataError(
                f"{path}: what was written is not sound, so it was not put there ({error}). If the "
                "source is sound, the disk is not"
            ) from error
        if isinstance(path, ObjectUrl):
            upload_store(pack_store(writer.folder, local), path, progress)
        else:
            place_store(writer.folder, path)
    info = source.info
    keys, left_out = tuple(sorted(info.frames)), dict(info.left_out)
    warnings = shortened(info.warnings)
    return ConversionReport(path, info.format, keys, n_episodes, n_frames, left_out, warnings)


def _require_action(info: SourceInfo) -> None:
    if "action" in info.frames:
        return
    vectors = [key for key, frame in info.frames.items() if len(frame.shape or ()) == 1]
    near = [key for key in vectors if "action" in key or "command" in key or "cmd" in key]
    if len(near) == 1:
        advice = f"Take {near[0]!r} as it: --rename {near[0]}=action"
    elif near:
        advice = f"Make it of several: --concatenate action={','.join(near)}"
    else:
        advice = (
            f"Name one of its vectors ({', '.join(vectors) or 'there is none'}) with "
            "--rename KEY=action, or make it of several with --concatenate action=KEY,KEY"
        )
    raise DataError(
        f"{info.path}: no key 'action' is taken, and without one nothing is learnt. {advice}"
    )

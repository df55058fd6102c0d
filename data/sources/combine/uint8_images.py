"""Pictures that are stored as floats or with channels first, as uint8 [height, width, channels].

Floats are whole numbers of 0 to 255, or numbers of 0 to 1.

The original Push-T dataset has `img (25650, 96, 96, 3) float32` of whole numbers from 0 to 255.
Which range a key has is decided from a sample of its frames, and checked on every frame read.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceEpisode, SourceInfo
from dipole.data.store.schema import FrameSchema, default_kind, looks_channels_first

SAMPLED_EPISODES = 8
SMALLEST_SIDE = 16  # pixels: less is a feature map or a matrix
_WORDS = ("img", "image", "rgb", "camera", "cam", "color", "colour", "pixel", "picture", "gray")


def with_uint8_images(source: Source) -> Source:
    """The source with its pictures as uint8, channels last, as those of depth; keys of a chosen
    dtype stay as they are.

    Whole numbers of 0 to 255 stay what they are; numbers of 0 to 1 are scaled by 255. The user is
    told by a warning. Raises DataError for a picture that is neither.
    """
    info = source.info
    frames, turned = _height_first(info)
    scales: dict[str, float] = {}
    warnings = [
        f"{info.path}: {key!r} is {info.frames[key].dtype} {list(info.frames[key].shape or ())}, "
        f"channels first: stored as pictures {list(frames[key].shape or ())}. To store it as "
        f"numbers: {_as_it_is(key, info.frames[key])}"
        for key in turned
    ]
    for key, schema in frames.items():
        if key in info.typed or not _may_be_picture(key, schema):
            continue
        scale = _scale(source, key, schema)
        if scale is None:
            continue
        scales[key] = scale
        what = "whole numbers of 0 to 255" if scale == 1 else "numbers of 0 to 1, times 255"
        warnings.append(f"{info.path}: {key!r} is {schema.dtype}: stored as uint8, {what}")
    if not scales and not turned:
        return source
    frames = {
        key: replace(schema, dtype=np.dtype(np.uint8), kind="image") if key in scales else schema
        for key, schema in frames.items()
    }
    said = [f"uint8 {key} {scale:g}" for key, scale in scales.items()]
    said += [f"channels last {key}" for key in turned]
    described = replace(
        info,
        frames=frames,
        warnings=(*info.warnings, *warnings),
        history=(*info.history, *said),
    )
    return _Uint8Images(source, described, scales, turned)


class _Uint8Images(WrappedSource):
    def __init__(
        self,
        source: Source,
        info: SourceInfo,
        scales: Mapping[str, float],
        turned: Collection[str],
    ) -> None:
        super().__init__(source, info)
        self._scales, self._turned = scales, turned

    def open(self, ref: EpisodeRef) -> SourceEpisode:
        place = f"{self._info.path}: episode {ref.id}"
        return _Uint8Episode(self._source.open(ref), self._scales, self._turned, place)


class _Uint8Episode(WrappedEpisode):
    def __init__(
        self,
        episode: SourceEpisode,
        scales: Mapping[str, float],
        turned: Collection[str],
        place: str,
    ) -> None:
        super().__init__(episode)
        self._scales, self._turned, self._place = scales, turned, place

    def read(self, key: str, start: int, stop: int) -> np.ndarray:
        frames = self._episode.read(key, start, stop)
        if key in self._turned:
            frames = np.ascontiguousarray(np.moveaxis(frames, 1, -1))
        scale = self._scales.get(key)
        if scale is None:
            return frames
        scaled = frames * np.float32(scale) if scale != 1 else frames
        pixels = np.rint(scaled)
        with np.errstate(invalid="ignore"):
            fits = (pixels >= 0) & (pixels <= 255)
            if scale == 1:
                fits &= pixels == frames
            else:
                fits &= (frames >= 0) & (frames <= 1)
        if not fits.all():
            whole = fits.reshape(len(frames), -1).all(1)
            raise DataError(
                f"{self._place}, {key!r}, frame {start + int(whole.argmin())}: "
                f"{'not whole numbers of 0 to 255' if scale == 1 else 'not numbers of 0 to 1'}, as "
                f"the frames before it. Mend it, or store the key as it is: --dtype {key}=float32"
            )
        images: np.ndarray = pixels.astype(np.uint8)
        return images


def _height_first(info: SourceInfo) -> tuple[dict[str, FrameSchema], tuple[str, ...]]:
    """The schemas with channels last, and the keys that have them first."""
    frames = dict(info.frames)
    for key, schema in info.frames.items():
        shape, dtype = schema.shape or (), np.dtype(schema.dtype)
        if key in info.typed or not looks_channels_first(shape):
            continue
        last = replace(schema, shape=(*shape[1:], shape[0]))
        if schema.kind in ("", "state", "image") and dtype == np.uint8:
            frames[key] = replace(last, kind="image")
        elif schema.kind in ("", "state"):
            is_depth = default_kind(key, last.shape or (), dtype) == "depth"
            if is_depth or _may_be_picture(key, last):
                frames[key] = replace(last, kind="depth" if is_depth else schema.kind)
    return frames, tuple(key for key in frames if frames[key] is not info.frames[key])


def _may_be_picture(key: str, schema: FrameSchema) -> bool:
    shape = schema.shape or ()
    if np.dtype(schema.dtype).kind != "f" or len(shape) != 3 or shape[2] not in (1, 3, 4):
        return False
    if schema.kind == "image":
        return True
    named = any(word in key.lower() for word in _WORDS) and "depth" not in key.lower()
    return schema.kind in ("", "state") and min(shape[:2]) >= SMALLEST_SIDE and named


def _scale(source: Source, key: str, schema: FrameSchema) -> float | None:
    """1 for whole numbers of 0 to 255, 255 for numbers of 0 to 1.

    None where a key that is only called like a picture has whole numbers of 0 and 1, a mask.
    """
    lowest, highest, whole = _range(source, key)
    if lowest >= 0 and highest <= 255 and whole and (highest > 1 or schema.kind == "image"):
        return 1.0
    if lowest >= 0 and highest <= 1:
        return None if whole and highest else 1.0 if whole else 255.0
    raise DataError(
        f"{source.info.path}: {key!r} is {schema.dtype} {list(schema.shape or ())} with values of "
        f"{lowest:g} to {highest:g}{'' if whole else ', not whole'}: pictures are whole numbers of "
        f"0 to 255, or numbers of 0 to 1. To store it as numbers: {_as_it_is(key, schema)}"
    )


def _range(source: Source, key: str) -> tuple[float, float, bool]:
    """Lowest and highest value of a sample, and whether all are whole."""
    absent = set(source.info.absent.get(key, ()))
    refs = [ref for ref in source.episodes() if ref.n_frames != 0 and ref.id not in absent]
    if not refs:
        return 0.0, 0.0, True
    lowest, highest, whole = np.inf, -np.inf, True
    for number in sorted(set(np.linspace(0, len(refs) - 1, SAMPLED_EPISODES).astype(int))):
        episode = source.open(refs[number])
        for frame in {0, episode.n_frames // 2, episode.n_frames - 1}:
            values = episode.read(key, frame, frame + 1)
            lowest, highest = min(lowest, values.min()), max(highest, values.max())
            whole = whole and bool((np.rint(values) == values).all())
    return float(lowest), float(highest), whole


def _as_it_is(key: str, schema: FrameSchema) -> str:
    dtype = np.dtype(schema.dtype)
    return f"--dtype {key}={'float32' if dtype.kind == 'f' else dtype.name}"

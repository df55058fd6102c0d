"""Some keys and some episodes of a source."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from dipole.data.core.episode_numbers import format_episode_numbers
from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import nearest
from dipole.data.sources.combine.wrapped import WrappedSource
from dipole.data.sources.source import EpisodeRef, Source, SourceInfo, frames_of
from dipole.data.store.schema import FrameSchema


def selected(
    source: Source,
    keys: Sequence[str] | None = None,
    episodes: Collection[int] | None = None,
    groups: Sequence[str] = (),
) -> Source:
    """These keys of these episodes, in the source's order; None for all.

    episodes: The source's own numbers.
    groups: Names of subsets that the source records; episodes of any of them are taken.

    Raises DataError for what the source does not have, and where frames of a key are missing.
    """
    only = getattr(source, "only", None)
    if keys is not None and only is not None:
        source = only(keys)
    info = source.info
    frames = frames_of(info, keys)
    refs = source.episodes()
    known = {ref.id for ref in refs}
    wanted = known if episodes is None else _existing(info, episodes, known)
    if groups:
        wanted = wanted & {id for name in groups for id in _group(info, name)}
    chosen = [ref for ref in refs if ref.id in wanted]
    if not chosen:
        raise DataError(f"{info.path}: no episode is selected of {len(refs)}")
    return _Selected(source, _describe(info, frames, wanted, keys), chosen)


class _Selected(WrappedSource):
    def __init__(self, source: Source, info: SourceInfo, refs: list[EpisodeRef]) -> None:
        super().__init__(source, info)
        self._refs = refs

    def episodes(self) -> Sequence[EpisodeRef]:
        return self._refs


def refuse_absent(source: Source) -> None:
    """Raise DataError where frames cannot be read, with the episodes and keys that can be used."""
    info, refs = source.info, source.episodes()
    if not refs:
        raise DataError(f"{info.path}: there are no episodes in it")
    for key, why in info.unreadable.items():
        raise DataError(
            f"{info.path}: {key!r} cannot be read: {why}. All other keys can be taken with "
            f"--keys {','.join(info.frames)}"
        )
    for key in info.frames:
        absent = set(info.absent.get(key, ()))
        missing = [ref.id for ref in refs if ref.id in absent]
        if missing:
            usable = [ref.id for ref in refs if ref.id not in absent]
            can = (
                "Those that have them can be used with --episodes "
                f"{format_episode_numbers(sorted(usable))}; all of them"
                if usable
                else "The episodes can be used"
            )
            without = ",".join(name for name in info.frames if not info.absent.get(name))
            raise DataError(
                f"{info.path}: the videos of {key!r} are missing for {len(missing)} of "
                f"{len(refs)} episodes ({format_episode_numbers(sorted(missing))}). {can} "
                f"without it with --keys {without}"
            )
    empty = [ref for ref in refs if ref.n_frames == 0]
    if empty:
        others = format_episode_numbers(sorted(ref.id for ref in refs if ref.n_frames != 0))
        raise DataError(
            f"{info.path}: {empty[0].name or f'episode {empty[0].id}'} has no frames; "
            f"{len(empty)} of {len(refs)} have none. Take the others with --episodes {others}"
        )


def refuse_repeated(source: Source) -> None:
    """Raise DataError where an episode is listed twice."""
    seen: set[int] = set()
    for ref in source.episodes():
        if ref.id in seen:
            raise DataError(f"{source.info.path}: episode {ref.id} is listed twice")
        seen.add(ref.id)


def _describe(
    info: SourceInfo,
    frames: dict[str, FrameSchema],
    wanted: Collection[int],
    keys: Sequence[str] | None,
) -> SourceInfo:
    absent = {
        key: [id for id in ids if id in wanted] for key, ids in info.absent.items() if key in frames
    }
    everything = keys is None
    groups = {name: tuple(id for id in ids if id in wanted) for name, ids in info.groups.items()}
    return replace(
        info,
        frames=frames,
        absent={key: ids for key, ids in absent.items() if ids},
        left_out=info.left_out if everything else {},
        unreadable=info.unreadable if everything else {},
        groups=groups,
    )


def _existing(info: SourceInfo, episodes: Collection[int], known: set[int]) -> set[int]:
    wanted = set(episodes)
    for number in episodes:
        if number not in known:
            raise ConfigError(
                f"{info.path}: no episode {number}; there are {len(known)}, "
                f"{min(known)} to {max(known)}"
            )
    return wanted


def _group(info: SourceInfo, name: str) -> tuple[int, ...]:
    if name not in info.groups:
        hint = nearest(name, info.groups)
        has = ", ".join(info.groups) or "none"
        raise ConfigError(f"{info.path}: no group {name!r}{hint or '.'} Groups: {has}")
    return info.groups[name]

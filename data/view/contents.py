"""What fits into the page: numbers of as many episodes as there is room for, then pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.store import EpisodeStore
from dipole.data.view import numbers, pictures
from dipole.data.view.embed import data_element, safe_json
from dipole.data.view.facts import short, without_path
from dipole.data.view.pictures import LADDER, PictureSpec

MOST_EPISODES = 1000  # a longer list is no overview
NUMBERS_SHARE = 0.5  # of the room, where there are pictures too
WITH_PICTURES = 8  # episodes whose pictures should fit at the least, where nobody chose episodes
GOOD = 4  # rungs of the ladder that are good enough to show all episodes that way
BASE64 = 4 / 3  # characters a byte
SAMPLED = 8  # frames a camera that tell how large its pictures become


@dataclass
class Room:
    """Bytes of the page that are still free."""

    left: int

    def take(self, n_bytes: int) -> bool:
        """Whether that many fit; then they are taken."""
        if n_bytes > self.left:
            return False
        self.left -= n_bytes
        return True


@dataclass
class Contents:
    """Episodes as the page's JSON has them, their bytes as script elements, and the pictures' spec.

    left_out: episodes that were asked for and did not fit.
    """

    episodes: list[dict[str, Any]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    pictures: PictureSpec | None = None
    left_out: list[int] = field(default_factory=list)

    @property
    def n_with_pictures(self) -> int:
        return sum(bool(episode["pictures"]) for episode in self.episodes)


def fill(
    store: EpisodeStore,
    wanted: Iterable[int],
    chosen: bool,
    keys: Sequence[str],
    cameras: Sequence[str],
    room: Room,
    log: Callable[[str], None],
) -> Contents:
    """Contents of at most `room.left` bytes; chosen: whether a person named the episodes.

    Raises DataError where not even one episode fits.
    """
    contents = Contents()
    free = Room(int(room.left * (NUMBERS_SHARE if cameras else 1)))
    before = free.left
    for episode in islice(wanted, None if chosen else MOST_EPISODES):
        log(f"reading the numbers of episode {episode}")
        entry, script = _numbers(store, episode, keys)
        if free.take(len(script) + len(safe_json(entry)) + 1):
            contents.episodes.append(entry)
            contents.scripts.append(script)
        elif chosen:
            contents.left_out.append(episode)
        else:
            break
    room.left -= before - free.left
    if not contents.episodes:
        raise DataError(
            f"{store.path}: a page of this size has no room for one episode; give a larger size="
        )
    if cameras:
        _add_pictures(store, contents, chosen, cameras, room, log)
    contents.episodes.sort(key=lambda entry: entry["episode"] if not chosen else 0)
    return contents


def _numbers(store: EpisodeStore, episode: int, keys: Sequence[str]) -> tuple[dict[str, Any], str]:
    start, stop = _span(store, episode)
    entry: dict[str, Any] = {
        "episode": episode,
        "start": start,
        "frames": stop - start,
        "task": short(store.tasks[episode]),
        "series": {},
        "pictures": {},
    }
    read = []
    for key in keys:
        try:
            series = numbers.read_series(store, key, start, stop)
        except DataError as error:
            entry["series"][key] = {"error": without_path(store, str(error))}
            continue
        entry["series"][key] = series.to_dict()
        read.append(series)
    return entry, data_element(f"numbers-{episode}", numbers.packed(read))


def _add_pictures(
    store: EpisodeStore,
    contents: Contents,
    chosen: bool,
    cameras: Sequence[str],
    room: Room,
    log: Callable[[str], None],
) -> None:
    contents.pictures = _affordable(store, contents.episodes, chosen, cameras, room.left)
    largest = 0.0  # bytes a frame, of the episodes so far
    for entry in contents.episodes:
        if largest * entry["frames"] > 1.2 * room.left:
            continue  # surely too large: not worth compressing
        log(f"compressing the pictures of episode {entry['episode']}")
        said, script = _pictures(store, entry, cameras, contents.pictures)
        largest = max(largest, len(script) / entry["frames"])
        if room.take(len(script) + len(safe_json(said))):
            entry["pictures"] = said
            contents.scripts.append(script)


def _pictures(
    store: EpisodeStore, entry: dict[str, Any], cameras: Sequence[str], spec: PictureSpec
) -> tuple[dict[str, Any], str]:
    frames = range(entry["start"], entry["start"] + entry["frames"])
    said: dict[str, Any] = {}
    parts: list[bytes] = []
    for camera in cameras:
        try:
            made = pictures.packed(list(pictures.read_pictures(store, camera, frames, spec)))
        except DataError as error:
            said[camera] = {"error": without_path(store, str(error))}
            continue
        said[camera] = {"at": sum(map(len, parts))}
        parts.append(made)
    return said, data_element(f"pictures-{entry['episode']}", b"".join(parts))


def _affordable(
    store: EpisodeStore,
    entries: Sequence[dict[str, Any]],
    chosen: bool,
    cameras: Sequence[str],
    room: int,
) -> PictureSpec:
    """The best pictures with which all episodes fit, if they are good; else with which some do."""
    samples = {camera: _samples(store, entries, camera) for camera in cameras}
    costs = [_bytes_a_frame(store, samples, spec) for spec in LADDER]
    frames = [entry["frames"] for entry in entries]
    for goal, rungs in ((len(frames), len(LADDER) if chosen else GOOD), (WITH_PICTURES, None)):
        for spec, cost in list(zip(LADDER, costs, strict=True))[:rungs]:
            if cost * sum(frames[:goal]) < 0.93 * room:
                return spec
    return LADDER[-1]


def _bytes_a_frame(
    store: EpisodeStore, samples: Mapping[str, Sequence[np.ndarray]], spec: PictureSpec
) -> float:
    """What a frame of the dataset costs in the page, all cameras together."""
    total = 0.0
    for camera, stored in samples.items():
        sizes = [len(pictures.encoded(f, pictures.shape_of(store, camera), spec)) for f in stored]
        total += sum(sizes) / max(len(sizes), 1)
    return total * BASE64 / spec.stride(store.fps)


def _samples(
    store: EpisodeStore, entries: Sequence[dict[str, Any]], camera: str
) -> list[np.ndarray]:
    """A few stored frames from all over the episodes; fewer where some cannot be read."""
    found = []
    for fraction in np.linspace(0, 1, SAMPLED):
        entry = entries[round(fraction * (len(entries) - 1))]
        frame = entry["start"] + round(fraction * (entry["frames"] - 1))
        try:
            found.append(store[camera].take(np.array([frame]))[0])
        except DataError:
            continue
    return found


def _span(store: EpisodeStore, episode: int) -> tuple[int, int]:
    return int(store.episode_starts[episode]), int(store.episode_ends[episode])

"""What fits into the page: numbers of as many episodes as possible, then images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.store import EpisodeStore
from dipole.data.view import images, numbers
from dipole.data.view.embed import data_element, safe_json
from dipole.data.view.facts import short, without_path
from dipole.data.view.images import QUALITY_LEVELS, ImageSpec

MOST_EPISODES = 1000  # a longer list is no overview
NUMBERS_SHARE = 0.5  # of the page, where there are images too
WITH_IMAGES = 8  # episodes whose images should fit at the least, where nobody chose episodes
GOOD_ENOUGH = 4  # of the quality levels: enough to show all episodes that way
SAFE_SHARE = 0.93  # of the budget that may be planned for: sizes are estimated from a few frames
BASE64 = 4 / 3  # characters a byte
SAMPLED = 8  # frames a camera that tell how large its images become


@dataclass
class ByteBudget:
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
    """Episodes as the page's JSON has them, their bytes as script elements, and the images' spec.

    left_out: episodes that were asked for and did not fit.
    """

    episodes: list[dict[str, Any]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    images: ImageSpec | None = None
    left_out: list[int] = field(default_factory=list)

    @property
    def n_with_images(self) -> int:
        return sum(bool(episode["images"]) for episode in self.episodes)


def fill(
    store: EpisodeStore,
    wanted: Iterable[int],
    chosen: bool,
    keys: Sequence[str],
    cameras: Sequence[str],
    budget: ByteBudget,
    log: Callable[[str], None],
) -> Contents:
    """Contents of at most `budget.left` bytes; chosen: whether a person named the episodes.

    Raises DataError if not even one episode fits.
    """
    contents = Contents()
    for_numbers = ByteBudget(int(budget.left * (NUMBERS_SHARE if cameras else 1)))
    before = for_numbers.left
    for episode in islice(wanted, None if chosen else MOST_EPISODES):
        log(f"reading the numbers of episode {episode}")
        entry, script = _numbers(store, episode, keys)
        if for_numbers.take(len(script) + len(safe_json(entry)) + 1):
            contents.episodes.append(entry)
            contents.scripts.append(script)
        elif chosen:
            contents.left_out.append(episode)
        else:
            break
    budget.left -= before - for_numbers.left
    if not contents.episodes:
        raise DataError(
            f"{store.path}: a page of this size has no room for one episode; give a larger size="
        )
    if cameras:
        _add_images(store, contents, chosen, cameras, budget, log)
    contents.episodes.sort(key=lambda entry: entry["episode"] if not chosen else 0)
    return contents


def _numbers(store: EpisodeStore, episode: int, keys: Sequence[str]) -> tuple[dict[str, Any], str]:
    start, stop = _span(store, episode)
    entry: dict[str, Any] = {
        "episode": episode,
        "start": start,
        "frames": stop - start,
        "task": short(store.tasks[episode]),
        "tasks": _task_spans(store, episode),
        "series": {},
        "images": {},
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


def _task_spans(store: EpisodeStore, episode: int) -> list[tuple[int, str]]:
    """First frame and words of each task within an episode; empty where it does not change."""
    if not hasattr(store, "task_spans"):
        return []
    spans = store.task_spans(episode)
    return [(int(start), short(words)) for start, words in spans] if len(spans) > 1 else []


def _add_images(
    store: EpisodeStore,
    contents: Contents,
    chosen: bool,
    cameras: Sequence[str],
    budget: ByteBudget,
    log: Callable[[str], None],
) -> None:
    contents.images = _choose_quality(store, contents.episodes, chosen, cameras, budget.left)
    largest = 0.0  # bytes a frame, of the episodes so far
    for entry in contents.episodes:
        if largest * entry["frames"] > 1.2 * budget.left:
            continue  # surely too large: not worth compressing
        log(f"compressing the images of episode {entry['episode']}")
        places, script = _images(store, entry, cameras, contents.images)
        largest = max(largest, len(script) / entry["frames"])
        if budget.take(len(script) + len(safe_json(places))):
            entry["images"] = places
            contents.scripts.append(script)


def _images(
    store: EpisodeStore, entry: dict[str, Any], cameras: Sequence[str], spec: ImageSpec
) -> tuple[dict[str, Any], str]:
    """Where each camera's images of an episode lie among the bytes, and the bytes as an element.

    A camera that cannot be read has an error in place of where.
    """
    frames = range(entry["start"], entry["start"] + entry["frames"])
    places: dict[str, Any] = {}
    parts: list[bytes] = []
    for camera in cameras:
        try:
            packed = images.packed(list(images.read_images(store, camera, frames, spec)))
        except DataError as error:
            places[camera] = {"error": without_path(store, str(error))}
            continue
        places[camera] = {"at": sum(map(len, parts))}
        parts.append(packed)
    return places, data_element(f"images-{entry['episode']}", b"".join(parts))


def _choose_quality(
    store: EpisodeStore,
    entries: Sequence[dict[str, Any]],
    chosen: bool,
    cameras: Sequence[str],
    n_bytes: int,
) -> ImageSpec:
    """The best quality with which images of enough episodes fit into n_bytes.

    Of all episodes, where a person chose them or the quality stays good enough; else of the first
    WITH_IMAGES; the lowest quality where not even these fit.
    """
    samples = {camera: _samples(store, entries, camera) for camera in cameras}
    costs = {spec: _bytes_a_frame(store, samples, spec) for spec in QUALITY_LEVELS}
    lengths = [entry["frames"] for entry in entries]

    def best(levels: Sequence[ImageSpec], n_frames: int) -> ImageSpec | None:
        fitting = (spec for spec in levels if costs[spec] * n_frames < SAFE_SHARE * n_bytes)
        return next(fitting, None)

    good_enough = QUALITY_LEVELS if chosen else QUALITY_LEVELS[:GOOD_ENOUGH]
    return (
        best(good_enough, sum(lengths))
        or best(QUALITY_LEVELS, sum(lengths[:WITH_IMAGES]))
        or QUALITY_LEVELS[-1]
    )


def _bytes_a_frame(
    store: EpisodeStore, samples: Mapping[str, Sequence[np.ndarray]], spec: ImageSpec
) -> float:
    """What a frame of the dataset costs in the page, all cameras together."""
    total = 0.0
    for camera, stored in samples.items():
        sizes = [len(images.encoded(f, images.shape_of(store, camera), spec)) for f in stored]
        total += sum(sizes) / max(len(sizes), 1)
    return total * BASE64 / spec.stride(store.fps)


def _samples(
    store: EpisodeStore, entries: Sequence[dict[str, Any]], camera: str
) -> list[np.ndarray]:
    """A few stored frames from all over the episodes; fewer where some cannot be read."""
    frames = []
    for fraction in np.linspace(0, 1, SAMPLED):
        entry = entries[round(fraction * (len(entries) - 1))]
        frame = entry["start"] + round(fraction * (entry["frames"] - 1))
        try:
            frames.append(store[camera].take(np.array([frame]))[0])
        except DataError:
            continue
    return frames


def _span(store: EpisodeStore, episode: int) -> tuple[int, int]:
    return int(store.episode_starts[episode]), int(store.episode_ends[episode])

"""Quantiles in bounded memory, and statistics that are kept in the user's cache."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import (
    TRANSFORMS,
    DataError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Statistics,
    Windows,
    WindowSpec,
)
from dipole.data.loading import statistics_cache
from dipole.data.loading.statistics import FrameSample, RunningStatistics

SPEC = WindowSpec(2, 4, 2)


def test_quantiles_of_a_hundred_numbers():
    found = Statistics.of(np.arange(101.0)[:, None])
    assert (found.q01.tolist(), found.q99.tolist()) == ([1], [99])


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(2, 64),
)
def test_a_sample_keeps_every_frame_or_every_second_fourth_and_so_on(lengths, capacity):
    sample, first = FrameSample(capacity_bytes=4 * capacity), 0
    for length in lengths:
        sample.add(np.arange(first, first + length, dtype=np.float32)[:, None])
        first += length
    kept = np.concatenate(sample._kept)[:, 0]
    assert len(kept) <= capacity
    assert kept.tolist() == list(range(0, first, sample._every))
    assert sample._every == 1 or 2 * len(kept) >= capacity // 2


def test_quantiles_of_more_frames_than_are_kept_are_near():
    frames = np.random.default_rng(0).normal(size=(200_000, 1)).astype(np.float32)
    sample, running = FrameSample(capacity_bytes=4 * 50_000), RunningStatistics()
    for part in np.array_split(frames, 7):
        sample.add(part)
        running.add(part)
    found = sample.with_quantiles(running.result())
    assert found.q01[0] == pytest.approx(-2.326, abs=0.05)
    assert found.q99[0] == pytest.approx(2.326, abs=0.05)


def test_a_frame_that_is_not_finite_is_named_with_its_dataset_and_feature(write):
    path = write([10, 10])
    array = EpisodeStore.open(path)["state"]
    read = type(array).read

    class Damaged(type(array)):
        def read(self, start, stop):
            frames = read(self, start, stop)
            frames[3] = np.nan
            return frames

    windows = Windows(EpisodeStore.open(path), SPEC)
    windows.store["state"].__class__ = Damaged
    with pytest.raises(DataError, match=rf"{path}: feature 'state': frame 3 is NaN or infinite"):
        windows.statistics()


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """Statistics of any size are kept, in a folder of the test's own; the folder."""
    monkeypatch.setattr(statistics_cache, "CACHED_FROM", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/dipole/statistics"


def equal(one, other):
    return one.keys() == other.keys() and all(
        a.count == b.count
        and all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for name in ("min", "max", "mean", "std", "q01", "q99")
        )
        for a, b in ((one[key], other[key]) for key in one)
    )


def unreadable(windows):
    """The same windows, whose frames cannot be read."""

    def fail(*_):
        raise AssertionError("read again")

    for reader in windows.readers.values():
        reader.read = fail
    return windows


def test_small_datasets_leave_nothing_in_the_cache(store, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Windows(store([10, 10]), SPEC).statistics()
    assert not (tmp_path / "cache").exists()


def test_statistics_are_computed_once(write, cached):
    path = write([10, 10])
    first = Windows(EpisodeStore.open(path), SPEC).statistics()
    again = unreadable(Windows(EpisodeStore.open(path), SPEC)).statistics()
    assert equal(first, again)
    assert len(list(cached.glob("*.json"))) == 2  # state and action
    assert not list(cached.glob("*.partial"))


def test_other_episodes_columns_and_data_are_computed_anew(write, cached):
    path = write([10, 12])
    whole = Windows(EpisodeStore.open(path), SPEC).statistics()["action"]
    some = Windows(EpisodeStore.open(path), SPEC, episodes=[0]).statistics()["action"]
    assert (whole.max.tolist(), some.max.tolist()) == ([21, 0], [9, 0])
    feature = Features({"state": Feature((1,), columns=(2,))}, Feature((2,), kind="action"))
    column = Windows(EpisodeStore.open(path), SPEC, feature).statistics()["state"]
    assert column.max.tolist() == [11]
    other = Windows(EpisodeStore.open(write([9, 12], "other.zarr")), SPEC).statistics()["action"]
    assert other.max.tolist() == [20, 0]


def test_other_numbers_of_the_same_lengths_are_computed_anew(cached, tmp_path):
    """Beside each other and, as after a new recording, in the same place."""
    found = []
    for name, scale in (("a.zarr", 1.0), ("b.zarr", 2.0), ("a.zarr", 3.0)):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        with EpisodeWriter(tmp_path / name) as writer:
            frames = scale * np.arange(20.0)[:, None]
            writer.add_episode({"state": frames, "action": frames})
        windows = Windows(EpisodeStore.open(tmp_path / name), SPEC)
        found.append(windows.statistics()["action"].max.tolist())
    assert found == [[19], [38], [57]]


def test_other_episodes_of_the_same_length_are_computed_anew(write, cached):
    store = EpisodeStore.open(write([10, 10]))
    one, other = (Windows(store, SPEC, episodes=[n]).statistics()["action"] for n in (0, 1))
    assert (one.max[0], other.max[0]) == (9, 19)


def test_another_conversion_is_computed_anew(cached, tmp_path):
    with EpisodeWriter(tmp_path / "a.zarr") as writer:
        frames = np.arange(20.0)[:, None]
        writer.add_episode({"state": frames, "action": frames})
    found = []
    for high in (19.0, 38.0):
        options = {"low": 0.0, "high": high}
        convert = [{"columns": [0], "transform": "range_to_unit", "options": options}]
        features = Features({"state": Feature((1,), convert=convert)}, Feature((1,), kind="action"))
        windows = Windows(EpisodeStore.open(tmp_path / "a.zarr"), SPEC, features)
        found.append(windows.statistics()["state"].max.tolist())
    assert found == [[1], [0]]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "not json", '{"format": "dipole statistics 1"}', "null", "[" * 100_000],
)
def test_a_file_that_is_not_sound_is_computed_again(write, cached, text):
    path = write([10, 10])
    first = Windows(EpisodeStore.open(path), SPEC).statistics()
    for file in cached.glob("*.json"):
        file.write_text(text)
    assert equal(first, Windows(EpisodeStore.open(path), SPEC).statistics())
    assert equal(first, unreadable(Windows(EpisodeStore.open(path), SPEC)).statistics())


@pytest.mark.parametrize(
    "change",
    [
        {"count": 19},
        {"min": [0.0]},
        {"min": [1e9, 1e9]},
        {"std": [-1.0, 0.0]},
        {"mean": [float("nan"), 0.0]},
        {"q01": None},
        {"mean": [10**400, 0]},
        {"q01": [1e9, 1e9]},
        {"q99": [-1e9, -1e9]},
        {"more": 1},
    ],
)
def test_numbers_that_cannot_be_are_computed_again(write, cached, change):
    path = write([10, 10])
    action = Features({"state": Feature((3,))}, Feature((2,), kind="action"))
    first = Windows(EpisodeStore.open(path), SPEC, action).statistics()
    for file in cached.glob("*.json"):
        said = json.loads(file.read_text())
        file.write_text(json.dumps({**said, **change}))
    assert equal(first, Windows(EpisodeStore.open(path), SPEC, action).statistics())


def test_numbers_of_a_mixture_are_not_taken_for_those_of_the_dataset(write, cached):
    windows = Windows(EpisodeStore.open(write([10, 10])), SPEC)
    own = windows.statistics()["action"]
    mapped = windows.mapped({"action": lambda frames: frames * 100}).statistics()["action"]
    assert mapped.max == pytest.approx(100 * own.max)
    assert equal(windows.statistics(), Windows(windows.store, SPEC).statistics())


def test_a_cache_that_cannot_be_written_is_no_error(write, monkeypatch, tmp_path):
    monkeypatch.setattr(statistics_cache, "CACHED_FROM", 0)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = Windows(EpisodeStore.open(write([10])), SPEC).statistics()
    assert found["action"].count == 10


def test_an_edited_transform_is_computed_anew(store, cached, tmp_path, monkeypatch):
    code = tmp_path / "plugin.py"
    code.write_text("def first(frames):\n    return frames[:, :1]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import plugin

    TRANSFORMS.add("test_plugin")(plugin.first)
    first = Feature((1,), source="state", transform="test_plugin")
    windows = Windows(store([10]), SPEC, Features({"x": first}, Feature((2,), kind="action")))
    windows.statistics()
    before = set(cached.glob("*.json"))
    code.write_text("def first(frames):\n    return 2 * frames[:, :1]\n")
    windows.statistics()
    assert len(set(cached.glob("*.json")) - before) == 1


def test_writers_at_once_leave_sound_files(write, cached):
    path = write([10, 10])
    expected = Windows(EpisodeStore.open(path), SPEC).statistics()

    def compute(_):
        for file in cached.glob("*.json"):
            file.unlink(missing_ok=True)
        return Windows(EpisodeStore.open(path), SPEC).statistics()

    with ThreadPoolExecutor(4) as pool:
        assert all(equal(found, expected) for found in pool.map(compute, range(40)))
    assert not list(cached.glob("*.partial"))
    for file in cached.glob("*.json"):
        assert json.loads(file.read_text())["count"] == 20

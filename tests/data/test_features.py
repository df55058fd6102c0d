"""Columns, transforms and statistics of what a policy sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import (
    TRANSFORMS,
    ConfigError,
    DataError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Statistics,
    Windows,
    WindowSpec,
)

ACTION = Feature((2,), kind="action")
SPEC = WindowSpec(2, 4, 3)


@TRANSFORMS.add("test_pairs")
def pairs(state):
    """[N, 3] -> [N, 3, 2]: each number beside its double."""
    return np.stack([state, 2 * state], -1)


def windows_of(store, observation, action=ACTION, episodes=None):
    return Windows(store, SPEC, Features(observation, action), episodes)


def test_a_feature_is_columns_of_its_source_in_the_order_named(store):
    swapped = Feature((2,), source="state", columns=(2, 0))
    batch = windows_of(store([6, 4]), {"swapped": swapped}).gather(np.array([7]))
    assert batch["observation"]["swapped"][0].tolist() == [[0, 6], [1, 7]]


def test_a_transform_is_applied_frame_by_frame(store):
    pair = Feature((3, 2), source="state", transform="test_pairs")
    batch = windows_of(store([6, 4]), {"pair": pair}).gather(np.array([8, 9]))
    assert batch["observation"]["pair"].shape == (2, 2, 3, 2)
    assert batch["observation"]["pair"][1, 0].tolist() == [[8, 16], [1, 2], [2, 4]]


def test_by_default_every_array_but_the_action_is_observed(store):
    features = Features.of(store([6]))
    assert features.observation == {
        "state": Feature((3,)),
        "camera": Feature((4, 4, 3), kind="image", normalize="image"),
    }
    assert features.action == ACTION


def test_features_survive_json(store):
    features = Features(
        {"a": Feature((2,), source="state", columns=(0, 1)), "b": Feature((9, 2), transform="x")},
        ACTION,
    )
    assert Features.from_dict(features.to_dict()) == features
    assert features.to_dict()["observation"]["a"] == {
        "shape": [2],
        "kind": "state",
        "source": "state",
        "columns": [0, 1],
        "transform": None,
        "normalize": "limits",
    }


def test_an_array_with_one_number_per_frame_is_a_feature_of_one_entry(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        writer.add_episode({"speed": np.arange(9.0), "action": np.zeros((9, 2))})
    windows = Windows(EpisodeStore.open(tmp_path / "a"), SPEC)
    assert windows[0]["observation"]["speed"].tolist() == [[0], [0]]


def test_depth_of_the_dataset_is_no_vector_of_numbers(tmp_path):
    with EpisodeWriter(tmp_path / "a") as writer:
        depth = np.ones((9, 4, 4, 1), np.uint16)
        writer.add_episode({"wrist_depth": depth, "action": np.zeros((9, 2))})
    stored = EpisodeStore.open(tmp_path / "a")
    with pytest.raises(DataError, match=r"'d': the dataset holds depth .* say kind: depth"):
        windows_of(stored, {"d": Feature((4, 4, 1), source="wrist_depth")})


@pytest.mark.parametrize(
    ("feature", "error", "message"),
    [
        (
            Feature((4, 4, 3), source="camera"),
            DataError,
            r"holds pictures in 'camera' \(kind image\), .* kind state: say kind: image",
        ),
        (Feature((3,), source="sate"), DataError, "no array 'sate', did you mean 'state'"),
        (
            Feature((4,), source="state"),
            DataError,
            r"\[4\] expected, but array 'state' gives \[3\]",
        ),
        (Feature((1,), source="state", columns=(3,)), DataError, "column 3 of array 'state'"),
        (Feature((3,), source="state", kind="image"), DataError, "values are no picture's"),
        (Feature((3,), source="state", transform="test_pair"), ConfigError, "'test_pairs'"),
    ],
)
def test_a_feature_the_data_does_not_have_is_refused(store, feature, error, message):
    with pytest.raises(error, match=message):
        windows_of(store([6]), {"it": feature})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (2,), "kind": "stat"}, "did you mean 'state'"),
        ({"shape": (2,), "normalize": "limit"}, "did you mean 'limits'"),
        ({"shape": (0,)}, "at least one entry"),
        ({"shape": "two"}, "whole numbers"),
        ({"shape": (2,), "columns": (-1, 0)}, "counted from 0"),
        ({"shape": (2,), "colums": (0, 1)}, "did you mean 'columns'"),
        ({"kind": "state"}, "no shape"),
    ],
)
def test_a_feature_that_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Feature.from_dict(values)


def test_statistics_are_over_the_frames_of_the_chosen_episodes(store):
    windows = windows_of(store([3, 4, 2]), {"state": Feature((3,))}, episodes=[2, 0])
    found = windows.statistics()
    frames = np.array([0, 1, 2, 7, 8.0])
    assert found.keys() == {"state", "action"}
    assert found["action"].min.tolist() == [0, -8]
    assert found["action"].max.tolist() == [8, 0]
    assert found["action"].mean.tolist() == pytest.approx([3.6, -3.6])
    assert found["action"].std.tolist() == pytest.approx([frames.std(ddof=1)] * 2)
    assert found["action"].count == 5
    assert found["state"].max.tolist() == [8, 2, 2]


def test_statistics_see_columns_and_transforms(store):
    pair = Feature((3, 2), source="state", transform="test_pairs")
    found = windows_of(store([6, 4]), {"pair": pair}).statistics()["pair"]
    assert found.max.tolist() == [[9, 18], [1, 2], [5, 10]]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=40), st.integers(1, 39))
def test_statistics_in_pieces_are_those_of_the_whole(values, cut):
    from dipole.data.loading.statistics import RunningStatistics

    array = np.array(values, np.float32)[:, None]
    running = RunningStatistics()
    for piece in filter(len, (array[:cut], array[cut:])):
        running.add(piece)
    pieced, plain = running.result(), array.astype(np.float64)
    assert pieced.mean == pytest.approx(plain.mean(0), rel=1e-9, abs=1e-9)
    assert pieced.std == pytest.approx(plain.std(0, ddof=1), rel=1e-6, abs=1e-6)
    assert (pieced.min, pieced.max) == (plain.min(0), plain.max(0))


def test_statistics_read_pieces_of_bounded_size(write_v2, monkeypatch):
    monkeypatch.setattr("dipole.data.loading.statistics.READ_BYTES", 240)  # 20 frames of 3 float32
    windows = windows_of(EpisodeStore.open(write_v2([100, 61])), {"state": Feature((3,))})
    reader, sizes = windows.readers["state"], []
    read = reader.read
    monkeypatch.setattr(reader, "read", lambda a, b: sizes.append(b - a) or read(a, b))
    assert windows.statistics()["state"].max.tolist() == [160, 1, 99]
    assert sizes == [16] * 10 + [1]  # two chunks of 8 frames


def test_the_human_actions_have_the_published_limits(human_path):
    windows = Windows(
        EpisodeStore.open(human_path),
        WindowSpec(),
        Features({"state": Feature((5,))}, ACTION),
    )
    action = windows.statistics()["action"]
    assert action.min.tolist() == [12, 25]
    assert action.max.tolist() == [511, 511]
    assert action.count == 25_650


@pytest.mark.parametrize("array", [np.zeros((0, 2)), np.array([[np.nan]]), np.array([[np.inf]])])
def test_statistics_of_nothing_or_of_nan_are_refused(array):
    with pytest.raises(DataError):
        Statistics.of(array)

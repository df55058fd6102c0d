"""The data of a task: which episodes train, at which rate, of one dataset or several."""

import numpy as np
import pytest

from dipole.data import ConfigError, DataError, EpisodeWriter
from dipole.data.loading.task_data import TaskData


def write(path, lengths, fps=10.0, units="", large=()):
    """States and actions below 1, or of 100 in the episodes named by `large`."""
    rng = np.random.default_rng(0)
    described = {key: {"units": units} for key in ("state", "action")}
    with EpisodeWriter(path, fps=fps, features=described) as writer:
        for episode, length in enumerate(lengths):
            offset = 100 if episode in large else 0
            values = rng.uniform(-1, 1, (length, 3)).astype(np.float32) + offset
            writer.add_episode({"state": values, "action": values[:, :2]})
    return str(path)


def task(**changes):
    return {
        "name": "mine",
        "observation": {"state": {"shape": [3]}},
        "action": {"shape": [2]},
        "window": {"n_obs_steps": 2, "horizon": 16, "n_action_steps": 8},
        "split": {"val_ratio": 0.02, "seed": 42, "max_train": None},
        **changes,
    }


SHORT = [40, 5, 40, 3, 40, 7, 40, 1, 40, 6]


def test_short_episodes_are_said_and_neither_held_out_nor_normalised_by(tmp_path):
    short = [episode for episode, length in enumerate(SHORT) if length < 8]
    path = write(tmp_path / "d.zarr", SHORT, large=short)
    for seed in range(20):
        split = {"val_ratio": 0.02, "seed": seed}
        data = TaskData.open(task(dataset=path, split=split), None)
        assert len(data.validation) > 0
        chosen = {*data.train.episodes.tolist(), *data.validation.episodes.tolist()}
        assert chosen == {0, 2, 4, 6, 8}
        assert data.train.statistics()["action"].max.max() < 1
    assert data.summary() == [
        "data: 5 of 10 episodes have windows, 4 to train on and 1 for validation; 132 windows"
    ]


def test_no_validation_is_said(tmp_path):
    path = write(tmp_path / "d.zarr", [40, 5, 7])
    data = TaskData.open(task(dataset=path), None)
    assert data.validation is None
    assert data.summary()[1].startswith("validation: none, because no episode is held out")


def test_a_dataset_of_short_episodes_is_refused(tmp_path):
    path = write(tmp_path / "d.zarr", [5, 7])
    with pytest.raises(DataError, match="longest of 2 chosen episodes has 7 frames"):
        TaskData.open(task(dataset=path), None)


def test_the_published_split_of_the_human_data_is_as_it_was(human_path):
    data = TaskData.open(task(dataset=str(human_path)) | {
        "observation": {"state": {"shape": [5]}}}, None)  # fmt: skip
    assert data.validation.episodes.tolist() == [18, 90, 134, 157]
    assert len(data.train.episodes) == 202
    assert sorted([*data.train.episodes, *data.validation.episodes]) == list(range(206))


def test_a_task_without_a_split_has_the_published_one(tmp_path):
    path = write(tmp_path / "d.zarr", [20] * 50)
    without = {key: value for key, value in task(dataset=path).items() if key != "split"}
    assert len(TaskData.open(without, None).train.episodes) == 49


def test_policy_hz_strides_a_single_dataset(tmp_path):
    path = write(tmp_path / "d.zarr", [100, 60], fps=50)
    data = TaskData.open(task(dataset=path, policy_hz=10), None)
    assert data.features.fps == 10
    assert data.train.step == 5
    assert data.train.features.fps == 10
    assert data.validation.step == 5
    first = data.validation.frames(np.array([0])).acted[0] - data.validation.starts[0]
    assert first[:4].tolist() == [0, 0, 5, 10]
    assert "a step is 5 frames" in data.summary()[0]
    whole = TaskData.open(task(dataset=path), None)
    assert (whole.features.fps, whole.train.step) == (50, 1)


def test_policy_hz_needs_the_rate_of_the_data(tmp_path):
    path = write(tmp_path / "d.zarr", [100, 60], fps=None)
    with pytest.raises(ConfigError, match=r"d\.zarr does not record its frames per second"):
        TaskData.open(task(dataset=path, policy_hz=10), None)
    assert TaskData.open(task(dataset=path, policy_hz=10, fps=30), None).train.step == 3


def mixed(tmp_path, first=None, second=None, **changes):
    one = write(tmp_path / "one.zarr", [30, 40], units="rad")
    other = write(tmp_path / "other.zarr", [30, 20], units="deg")
    parts = [{"path": one, **(first or {})}, {"path": other, **(second or {})}]
    return TaskData.open(task(datasets=parts, **changes), None)


def test_without_weights_every_window_is_as_likely(tmp_path):
    data = mixed(tmp_path, normalizer="per_part")
    assert data.train.weights == tuple(len(part.train) for part in data.parts)
    with pytest.raises(ConfigError, match=r"'other\.zarr' has no weight, but others have"):
        mixed(tmp_path / "again", {"weight": 2}, normalizer="per_part")


def test_units_that_differ_are_refused_or_unknown(tmp_path):
    with pytest.raises(ConfigError, match="is in deg, but the policy's is in rad"):
        mixed(tmp_path)
    data = mixed(tmp_path / "again", normalizer="per_part")
    assert data.features.action.units == ""
    assert data.has_own_ranges


def test_episodes_and_split_may_be_a_datasets_own(tmp_path):
    data = mixed(
        tmp_path,
        {"episodes": "0", "name": "a"},
        {"episodes": [1, 0], "split": {"val_ratio": 0}},
        normalizer="per_part",
    )
    assert data.names == ["a", "other.zarr"]
    assert [part.train.episodes.tolist() for part in data.parts] == [[0], [1, 0]]
    assert data.validation is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"episodes": [0, 0]}, "episodes .*different numbers"),
        ({"episodes": [7]}, "no episode 7; there are 2"),
        ({"episodes": "7-3"}, "runs backwards"),
        ({"weight": 0}, "weight 0: a part's weight is a positive number"),
        ({"observation": {"stat": None}}, "no observation 'stat', did you mean 'state'"),
        ({"action": {"entries": ["a"]}}, "entries .* whole numbers are needed"),
        ({"observation": {"state": {"colums": [0]}}}, r"dataset 'other\.zarr': .* 'columns'"),
        ({"observation": ["state"]}, r"observation is \['state'\]: a table"),
        ({"observation": {"state": 3}}, "state is 3: a table"),
        ({"action": {"shape": 2}}, "shape 2: whole numbers are needed"),
        ({"fps": 20}, "the task says fps = 20"),
        ({"action": {"columns": [0], "shape": [1], "entries": [2]}}, r"to entries \[2\]"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(tmp_path, entry, message):
    with pytest.raises((ConfigError, DataError), match=message):
        mixed(tmp_path, {"weight": 1}, {"weight": 1, **entry}, normalizer="per_part")


def test_a_part_of_the_action_has_its_names_and_units(tmp_path):
    action = {"shape": [3], "names": ["x", "y", "grip"], "units": ["m", "m", "%"]}
    one = write(tmp_path / "one.zarr", [30, 40])
    with EpisodeWriter(tmp_path / "two.zarr", fps=10) as writer:
        values = np.random.default_rng(0).normal(size=(40, 3))
        writer.add_episode({"state": values, "action": values})
        writer.add_episode({"state": values, "action": values})
    parts = {
        "two": {"path": str(tmp_path / "two.zarr"), "weight": 1},
        "one": {"path": one, "weight": 1, "action": {"shape": [2], "entries": [0, 2]}},
    }
    data = TaskData.open(task(datasets=parts, action=action), None)
    assert data.parts[1].train.features.action.names == ("x", "grip")
    assert data.parts[1].train.features.action.units == ("m", "%")
    assert data.features.action.names == ("x", "y", "grip")


def test_a_dataset_of_several_may_be_its_path_alone(tmp_path):
    one, two = write(tmp_path / "one.zarr", [30, 40]), write(tmp_path / "two.zarr", [30, 20])
    assert TaskData.open(task(datasets={"a": one, "b": {"path": two}}), None).names == ["a", "b"]
    assert TaskData.open(task(datasets=[one, two]), None).names == ["one.zarr", "two.zarr"]
    for several in ({"a": 3}, {"a": [one]}):
        with pytest.raises(ConfigError, match=r"task\.datasets\.a is .*: a path, or a table"):
            TaskData.open(task(datasets=several), None)
    with pytest.raises(ConfigError, match=r"task\.datasets\.1 is 3"):
        TaskData.open(task(datasets=[one, 3]), None)


def test_a_normalizer_of_several_datasets_is_refused_where_there_is_one(tmp_path):
    path = write(tmp_path / "d.zarr", [40, 40])
    with pytest.raises(ConfigError, match="'per_part', and the task has one dataset"):
        TaskData.open(task(dataset=path, normalizer="per_part"), None)
    with pytest.raises(ConfigError, match="'foo': choose merged or per_part"):
        TaskData.open(task(dataset=path, normalizer="foo"), None)


@pytest.mark.parametrize("key", ["observation", "action", "window"])
def test_a_task_that_lacks_a_table_is_refused(tmp_path, key):
    said = {name: value for name, value in task(dataset="d").items() if name != key}
    with pytest.raises(ConfigError, match=f"task 'mine' has no {key}"):
        TaskData.open(said, None)


def test_the_same_data_is_required_of_every_dataset(tmp_path):
    data = mixed(tmp_path, normalizer="per_part")
    described = data.describe()
    data.require_same(described, "checkpoint")
    described["parts"][1]["fingerprint"] = "another"
    with pytest.raises(ConfigError, match=r"other\.zarr is not the dataset that checkpoint"):
        data.require_same(described, "checkpoint")
    with pytest.raises(ConfigError, match="2 datasets, but checkpoint was trained on 1"):
        data.require_same({"fingerprint": "x"}, "checkpoint")

"""What a dataset says of its numbers is what its features say, or a contradiction is named."""

import numpy as np
import pytest

from dipole.data import (
    TRANSFORMS,
    ConfigError,
    DataError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Windows,
    WindowSpec,
)
from dipole.data.loading.recorded import as_recorded

ARM = {"units": ["deg", "deg", "m"], "names": ["shoulder", "elbow", "gripper"]}


@TRANSFORMS.add("test_doubled")
def doubled(joints):
    return 2 * joints


def dataset(path, fps=50.0, **said):
    described = {"joints": ARM, "action": {"units": "deg", "names": ["a", "b"]}, **said}
    with EpisodeWriter(path, fps=fps, features=described) as writer:
        writer.add_episode({"joints": np.zeros((9, 3)), "action": np.zeros((9, 2))})
    return EpisodeStore.open(path)


def features(joints, action=None, fps=None):
    return Features({"joints": joints}, action or Feature((2,), kind="action"), fps)


def test_names_units_and_rate_are_those_of_the_dataset(tmp_path):
    found = as_recorded(features(Feature((3,))), dataset(tmp_path / "a"))
    assert found.fps == 50.0
    assert found.observation["joints"].units == ("deg", "deg", "m")
    assert found.observation["joints"].names == ("shoulder", "elbow", "gripper")
    assert (found.action.units, found.action.names) == ("deg", ("a", "b"))
    assert Features.of(dataset(tmp_path / "b")) == found


def test_columns_take_their_names_and_units_along(tmp_path):
    chosen = Feature((2,), columns=(2, 0))
    found = as_recorded(features(chosen), dataset(tmp_path / "a")).observation["joints"]
    assert found.names == ("gripper", "shoulder")
    assert found.units == ("m", "deg")


def test_what_a_transform_makes_has_only_what_the_task_says(tmp_path):
    store = dataset(tmp_path / "a")
    made = Feature((3,), transform="test_doubled")
    assert as_recorded(features(made), store).observation["joints"] == made
    said = Feature((3,), transform="test_doubled", units="half degrees", names=("a", "b", "c"))
    assert as_recorded(features(said), store).observation["joints"] == said


def test_the_task_says_what_the_dataset_does_not(tmp_path):
    store = dataset(tmp_path / "a", fps=None, joints={}, action={})
    said = features(Feature((3,), units="rad", names=("a", "b", "c")), fps=30)
    assert as_recorded(said, store) == said
    assert as_recorded(said, store).fps == 30.0
    nothing = as_recorded(features(Feature((3,))), store)
    assert nothing.fps is None
    assert nothing.observation["joints"] == Feature((3,))


def test_another_spelling_of_the_same_unit_is_no_contradiction(tmp_path):
    said = Feature((3,), units=("degrees", "Degree", "metres"))
    found = as_recorded(features(said), dataset(tmp_path / "a"))
    assert found.observation["joints"].units == ("deg", "deg", "m")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (features(Feature((3,)), fps=10), "says fps = 10, but .* at 50 frames a second"),
        (
            features(Feature((3,), units="rad")),
            "'joints' is in rad, but .* 'joints' in deg, deg, m",
        ),
        (
            features(Feature((3,), names=("elbow", "shoulder", "gripper"))),
            "names elbow, shoulder, gripper, but .* shoulder, elbow, gripper",
        ),
        (
            features(Feature((3,)), Feature((2,), kind="action", names=("b", "a"))),
            "'action' has the names b, a, but .* a, b",
        ),
    ],
)
def test_a_contradiction_between_task_and_dataset_names_both(tmp_path, said, message):
    with pytest.raises(ConfigError, match=message):
        as_recorded(said, dataset(tmp_path / "a"))


def test_a_wrong_shape_is_said_with_the_feature_and_the_array(tmp_path):
    store = dataset(tmp_path / "a")
    found = as_recorded(features(Feature((2,)), Feature((3,), kind="action")), store)
    with pytest.raises(DataError, match=r"feature 'joints': shape \[2\] .* 'joints' gives \[3\]"):
        Windows(store, WindowSpec(2, 4, 3), found)


def test_features_with_a_rate_survive_json(tmp_path):
    found = Features.of(dataset(tmp_path / "a"))
    assert Features.from_dict(found.to_dict()) == found
    assert found.to_dict()["fps"] == 50.0


def test_features_from_before_are_read_as_unknown():
    old = {"observation": {"joints": {"shape": [3]}}, "action": {"shape": [2]}}
    found = Features.from_dict(old)
    assert found.fps is None
    assert (found.action.units, found.action.names) == ("", ())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": [3], "names": ["a", "b"]}, "2 of them for frames of shape \\[3\\]"),
        ({"shape": [3], "names": "abc"}, "names 'abc': a list of texts"),
        ({"shape": [3], "units": ["m"]}, "1 of them for frames of shape \\[3\\]"),
        ({"shape": [3], "units": 5}, "units 5: one text, or a list"),
        ({"shape": [9, 2], "names": ["x", "y"]}, "other shapes none"),
    ],
)
def test_names_and_units_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Feature.from_dict(values)


@pytest.mark.parametrize("fps", [0, -1, float("inf"), "10", True])
def test_a_rate_that_is_none_is_refused(fps):
    with pytest.raises(ConfigError, match="positive number"):
        features(Feature((3,)), fps=fps)


def test_a_dataset_has_a_name_and_a_unit_for_each_number(tmp_path):
    for said, message in (
        ({"names": ["a", "b"]}, "2 names for frames of shape \\[3\\]"),
        ({"units": ["a", "b"]}, "2 units for frames of shape \\[3\\]"),
    ):
        with pytest.raises(DataError, match=message):
            dataset(tmp_path / "a", joints=said)

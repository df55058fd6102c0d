"""What `validate` finds beyond what cannot be read at all."""

import shutil

import numpy as np
import pytest
import zarr

from dipole.data import EpisodeWriter
from dipole.data.inspection.validate import validate


def put(path, key, values):
    """Store an array in place of another, as a careless script would."""
    shutil.rmtree(path / f"data/{key}", ignore_errors=True)
    group = zarr.open_group(path, mode="r+")
    group.create_array(f"data/{key}", shape=values.shape, chunks=values.shape, dtype=values.dtype)[
        :
    ] = values
    return path


def messages(result, level):
    return [f"{f.where}: {f.message}" for f in result.findings if f.level == level]


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path, noise):
    with EpisodeWriter(tmp_path / "a.zarr") as writer:
        for part in np.split(noise, [20, 45]):
            writer.add_episode({"state": part, "action": part[:, :2]})
    return tmp_path / "a.zarr"


def test_a_sound_dataset_has_no_findings(path):
    assert validate(path).findings == []


def test_the_human_data_is_sound_and_its_blocks_angle_wraps(human_path):
    found = validate(human_path)
    assert found.ok
    (message,) = messages(found, "warning")
    assert message.startswith("state: dimension 4 jumps by 6.229, about a full turn, 91 times")


def test_nan_and_infinity_are_named_by_frame_and_episode(path, noise):
    noise[21, 0], noise[59, 2] = np.nan, -np.inf
    found = validate(put(path, "state", noise))
    assert messages(found, "problem") == [
        "state: frame 21 (episode 1, its frame 1) holds NaN or infinity: mend it or leave it out",
        "state: frame 59 (episode 2, its frame 14) holds NaN or infinity: mend it or leave it out",
    ]


def test_many_findings_of_one_sort_are_counted(path, noise):
    noise[10:40] = np.nan
    found = messages(validate(put(path, "state", noise)), "problem")
    assert len(found) == 11
    assert found[-1] == "state: and at least 20 more like these"


def test_a_constant_dimension_is_a_warning(path, noise):
    noise[:, 1] = 7
    found = validate(put(path, "state", noise))
    assert found.ok
    assert messages(found, "warning") == [
        "state: dimension 1 is always 7: there is nothing to learn"
    ]


def test_an_outlier_is_a_warning_with_its_frame(path, noise):
    noise[25, 2] = 1e4
    found = validate(put(path, "state", noise))
    assert found.ok
    (message,) = messages(found, "warning")
    assert message.startswith("state: dimension 2 is 10000 in frame 25 (episode 1, its frame 5)")


def test_a_dimension_that_mostly_stands_still_is_no_outlier(path, noise):
    noise[:, 0] = 0
    noise[30, 0] = 1
    assert validate(put(path, "state", noise)).findings == []


def test_a_schema_that_is_not_the_array_is_a_problem(path, noise):
    found = validate(put(path, "state", noise[:, :2].astype(np.float64)))
    (message,) = messages(found, "problem")
    assert "the schema says ['float32', [3]], the array is ['float64', [2]]" in message


def test_a_key_that_only_the_schema_has_is_a_problem(path):
    shutil.rmtree(path / "data/state")
    assert messages(validate(path), "problem") == [
        "state: the schema describes it, but there is no readable array"
    ]


def test_a_dataset_without_actions_is_a_problem(path):
    shutil.rmtree(path / "data/action")
    assert "action: no readable array data/action; there are ['state']" in messages(
        validate(path), "problem"
    )


def test_actions_in_several_axes_are_a_problem(path):
    found = validate(put(path, "action", np.ones((60, 2, 1), np.float32)))
    assert any("its shape is [60, 2, 1]" in message for message in messages(found, "problem"))


def test_episodes_too_short_for_a_window_are_warnings(tmp_path, noise):
    with EpisodeWriter(tmp_path / "b.zarr") as writer:
        for part in np.split(noise, [50, 57]):
            writer.add_episode({"action": part})
    assert messages(validate(tmp_path / "b.zarr"), "warning") == [
        "episodes: episode 1 has 7 frames, too few for a window at 16/2/8: leave it out",
        "episodes: episode 2 has 3 frames, too few for a window at 16/2/8: leave it out",
    ]


def test_several_problems_are_listed_at_once(path, noise):
    noise[3, 0] = np.nan
    put(path, "state", noise)
    (path / "data/action/c/0/0").unlink()
    found = messages(validate(path), "problem")
    assert len(found) == 2
    assert "'action', frames 0 to 59: data/action/c/0/0 is missing" in found[0]
    assert "frame 3 (episode 0" in found[1]

"""A range of depth that holds nothing of a dataset is refused before anything is trained on it."""

import numpy as np
import pytest

from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.loading.task_data import TaskData

MILLIMETRES = np.random.default_rng(0).integers(300, 1500, (40, 16, 16, 1)).astype(np.uint16)


def statistics(path, *depth, said=(0.3, 1.5), units="mm", **more):
    features = {"wrist": {"kind": "depth", "units": units}}
    with EpisodeWriter(path, fps=10, features=features) as writer:
        for each in depth:
            writer.add_episode({"wrist": each, "action": np.random.rand(len(each), 2)})
    feature = {"shape": [16, 16, 1], "kind": "depth", "range": list(said), **more}
    task = {
        "name": "mine",
        "dataset": str(path),
        "observation": {"wrist": feature},
        "action": {"shape": [2]},
        "window": {"n_obs_steps": 2, "horizon": 16, "n_action_steps": 8},
    }
    return TaskData.open(task, None).train.statistics()["wrist"]


@pytest.mark.parametrize("more", [{}, {"normalize": "log"}])
def test_metres_for_millimetres_are_refused_with_what_was_measured(tmp_path, more):
    message = (
        r"'wrist': no depth lies within its range \[0.3, 1.5\]: 'wrist' holds 300 to 1499, in mm"
    )
    with pytest.raises(DataError, match=message):
        statistics(tmp_path / "a.zarr", MILLIMETRES, MILLIMETRES, **more)


def test_millimetres_for_metres_without_a_unit_are_refused(tmp_path):
    metres = np.float32(MILLIMETRES) / 1000
    with pytest.raises(DataError, match=r"holds 0.3 to 1.499, in a unit that is not recorded"):
        statistics(tmp_path / "a.zarr", metres, metres, said=(300, 1500), units="")


def test_one_measurement_within_the_range_is_enough(tmp_path):
    far = np.full_like(MILLIMETRES, 4000)
    last = far.copy()
    last[-1, 3, 3] = 1000
    found = statistics(tmp_path / "a.zarr", far, last, last, said=(300, 1500))
    assert (found.min.min(), found.max.max()) == (300, 1500)


def test_what_was_not_measured_says_nothing_of_units(tmp_path):
    none = np.zeros_like(MILLIMETRES)
    assert statistics(tmp_path / "a.zarr", none, none).count == 40
    assert EpisodeStore.open(tmp_path / "a.zarr").n_frames == 80

"""Several datasets become one: `dipole data convert A OUT also=B`."""

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import DataError, EpisodeStore, EpisodeWriter
from dipole.data.formats.joined import open_joined

ARM = {"id": "arm", "version": "1"}


def write(path, lengths, first=0.0, fps=10.0, keys=("state", "action"), environment=ARM):
    with EpisodeWriter(path, fps=fps, environment=environment) as writer:
        for number, length in enumerate(lengths):
            episode = {key: np.full((length, 2), float(first + number)) for key in keys}
            writer.add_episode(episode, task=f"task {first + number:g}")
    return path


def test_episodes_follow_one_another_with_their_tasks(tmp_path):
    a, b = write(tmp_path / "a.zarr", [3, 2]), write(tmp_path / "b.zarr.zip", [4], first=7)
    assert main(["data", "convert", str(a), str(tmp_path / "c.zarr"), f"also={b}"]) == 0
    joined = EpisodeStore.open(tmp_path / "c.zarr")
    assert joined.episode_ends.tolist() == [3, 5, 9]
    assert joined["action"][:, 0].tolist() == [0, 0, 0, 1, 1, 7, 7, 7, 7]
    assert joined.tasks == ["task 0", "task 1", "task 7"]
    assert (joined.fps, joined.environment) == (10.0, ARM)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"fps": 20.0}, "20.0 frames a second"),
        ({"keys": ("joints", "action")}, "keys action, joints"),
        ({"environment": {"id": "leg", "version": "1"}}, "recorded in"),
    ],
)
def test_datasets_that_do_not_agree_are_refused_by_name(tmp_path, other, said):
    a, b = write(tmp_path / "a.zarr", [3]), write(tmp_path / "b.zarr", [3], **other)
    with pytest.raises(DataError, match=rf"b\.zarr.*{said}.*a\.zarr"):
        open_joined([a, b])

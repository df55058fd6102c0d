"""HDF5 of ALOHA and ManiSkill: which layout a file has is told from its groups."""

import io
import json

import h5py
import numpy as np
import pytest
from PIL import Image

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.registry import format_of, open_source


def jpeg(brightness):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 16, 3), brightness, np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_aloha(folder, lengths=(3, 4), compressed=False):
    folder.mkdir()
    for number, n in zip((10, 2), lengths[::-1], strict=True):  # sorted by number, not by name
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file["action"] = np.full((n, 14), number, np.float32)
            file["observations/qpos"] = np.zeros((n, 14))
            if compressed:
                images = [jpeg(number + k) for k in range(n)]
                padded = np.zeros((n, max(map(len, images)) + number), np.uint8)
                for row, image in zip(padded, images, strict=True):
                    row[: len(image)] = np.frombuffer(image, np.uint8)
                file["observations/images/top"] = padded
                file["compress_len"] = np.zeros((1, n))
            else:
                file["observations/images/top"] = np.full((n, 8, 16, 3), number, np.uint8)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
def test_each_file_of_aloha_is_an_episode(tmp_path, compressed):
    source = write_aloha(tmp_path / "theirs", compressed=compressed)
    assert format_of(source) == format_of(source / "episode_2.hdf5") == "ALOHA"
    convert(open_source(source), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store.keys() == ["action", "images.top", "qpos"]
    assert store["action"][:, 0].tolist() == [2, 2, 2, 10, 10, 10, 10]
    assert store["images.top"].shape == (7, 8, 16, 3)
    expected = [2, 3, 4, 10, 11, 12, 13] if compressed else [2, 2, 2, 10, 10, 10, 10]
    difference = store["images.top"][:, 0, 0, 0].astype(int) - expected
    assert np.abs(difference).max() <= compressed


def test_an_episode_of_aloha_with_other_lengths_is_refused(tmp_path):
    source = write_aloha(tmp_path / "theirs")
    with h5py.File(source / "episode_10.hdf5", "a") as file:
        del file["observations/qpos"]
        file["observations/qpos"] = np.zeros((3, 14))
    with pytest.raises(DataError, match=r"episode_10.hdf5: observations/qpos has 3 frames, 4"):
        convert(open_source(source), tmp_path / "ours.zarr")


def write_maniskill(path):
    with h5py.File(path, "w") as file:
        for number, n in enumerate((3, 4)):
            group = file.create_group(f"traj_{number}")
            group["actions"] = np.full((n, 8), number, np.float32)
            group["obs/agent/qpos"] = np.arange((n + 1) * 9.0).reshape(n + 1, 9)
            group["obs/sensor_data/base_camera/rgb"] = np.zeros((n + 1, 8, 8, 3), np.uint8)
            group["obs/sensor_param/base_camera/intrinsic_cv"] = np.zeros((n + 1, 3, 3))
            group["success"] = np.zeros(n, bool)
    kwargs = {"sim_config": {"sim_freq": 100, "control_freq": 20}}
    said = {"env_info": {"env_id": "PickCube-v1", "env_kwargs": kwargs}}
    path.with_suffix(".json").write_text(json.dumps(said))
    return path


def test_trajectories_of_maniskill_are_episodes(tmp_path):
    source = write_maniskill(tmp_path / "trajectory.h5")
    assert format_of(source) == "ManiSkill"
    report = convert(open_source(source), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store.keys() == ["action", "agent.qpos", "base_camera.rgb", "success"]
    assert store.episode_ends.tolist() == [3, 7]
    assert store["agent.qpos"][2:4, 0].tolist() == [18, 0]
    assert (store.fps, store.environment["id"]) == (20, "PickCube-v1")
    assert list(report.left_out) == ["obs/sensor_param/base_camera/intrinsic_cv"]

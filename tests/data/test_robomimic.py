"""HDF5 of robomimic: what is taken, what is left out and said, and nothing of other files."""

import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest

from dipole.data import ConfigError, DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source

SECRET = b"a secret of this computer, " * 10


def write(path, lengths=(5, 4), names=None, **more):
    """Demos of state and actions; more: arrays by place, written to each demo."""
    with h5py.File(path, "w") as file:
        for number, length in enumerate(lengths):
            demo = file.create_group(f"data/{names[number] if names else f'demo_{number}'}")
            demo["actions"] = np.full((length, 2), number, np.float32)
            demo["obs/state"] = np.full((length, 3), 10 + number, np.float32)
            for place, make in more.items():
                demo[place] = make(length)
    return path


def opened(path, number=0):
    source = open_source(path)
    return source, source.open(source.episodes()[number])


def test_demo_numbers_may_be_written_with_zeros(tmp_path):
    source, second = opened(write(tmp_path / "a.hdf5", names=("demo_000", "demo_001")), 1)
    assert [ref.id for ref in source.episodes()] == [0, 1]
    assert second.read("action", 0, 4).tolist() == [[1, 1]] * 4


def test_two_demos_of_one_number_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"demo_00 and demo_0|demo_0 and demo_00"):
        open_source(write(tmp_path / "a.hdf5", names=("demo_0", "demo_00")))


def test_a_demo_without_frames_is_named_with_those_that_can_be_taken(tmp_path):
    path = write(tmp_path / "a.hdf5", lengths=(5, 0, 3))
    with pytest.raises(DataError, match=r"demo_1 has no frames.*--episodes 0,2"):
        convert(open_source(path), tmp_path / "out.zarr")
    convert(selected(open_source(path), episodes=(0, 2)), tmp_path / "out.zarr")
    assert EpisodeStore.open(tmp_path / "out.zarr").episode_ends.tolist() == [5, 8]


def test_actions_of_one_axis_become_vectors_of_one(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.arange(4.0)
    source, demo = opened(tmp_path / "a.hdf5")
    assert source.info.frames["action"].shape == (1,)
    assert demo.read("action", 1, 3).tolist() == [[1], [2]]
    assert "actions have one axis" in source.info.warnings[0]


def test_a_key_that_only_later_demos_have_is_left_out_and_said(tmp_path):
    path = write(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_1/obs/force"] = np.zeros((4, 6))
    report = convert(open_source(path), tmp_path / "out.zarr")
    assert "obs/force is left out" in report.warnings[0]
    assert EpisodeStore.open(tmp_path / "out.zarr").keys() == ["action", "state"]


def test_a_key_that_a_later_demo_lacks_is_an_error_that_names_both(tmp_path):
    path = write(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs/state"]
    with pytest.raises(DataError, match=r"data/demo_1/obs/state.*or the key 'state', by --keys"):
        convert(open_source(path), tmp_path / "out.zarr")


def test_nested_observations_are_taken_by_dotted_names(tmp_path):
    path = write(tmp_path / "a.hdf5", **{"obs/robot0/joint_pos": lambda n: np.ones((n, 7))})
    source, demo = opened(path)
    assert sorted(source.info.frames) == ["action", "robot0.joint_pos", "state"]
    assert demo.read("robot0.joint_pos", 0, 1).tolist() == [[1.0] * 7]


def test_what_is_not_taken_is_listed_with_the_reason(tmp_path):
    path = write(
        tmp_path / "a.hdf5",
        **{
            "next_obs/state": lambda n: np.ones((n, 3)),
            "state": lambda n: np.ones((n, 9)),
            "obs/words": lambda n: np.array([b"push"] * n),
            "obs/sp ace": lambda n: np.ones((n, 1)),
        },
    )
    left_out = open_source(path).info.left_out
    assert left_out["next_obs"] == "it repeats obs, one frame later"
    assert left_out["state"] == "obs/state has the same name"
    assert "text" in left_out["obs/words"]
    assert "other characters" in left_out["sp ace"]  # by the name that --rename takes


def test_depth_is_known_by_its_name_and_shape(tmp_path):
    shapes = {"front_depth": (8, 8, 1), "front_image": (8, 8, 3), "depth_of_hole": (1,)}
    dtypes = {"front_image": np.uint8}
    more = {
        f"obs/{key}": lambda n, key=key: np.ones((n, *shapes[key]), dtypes.get(key, np.float32))
        for key in shapes
    }
    frames = open_source(write(tmp_path / "a.hdf5", **more)).info.frames
    kinds = {key: frames[key].kind for key in shapes}
    assert kinds == {"front_depth": "depth", "front_image": "image", "depth_of_hole": "state"}


def test_masks_are_groups_of_episodes(tmp_path):
    path = write(tmp_path / "a.hdf5", lengths=(3, 4, 5))
    with h5py.File(path, "a") as file:
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
        file["mask/valid"] = np.array([b"demo_1", b"demo_9"])
    source = open_source(path)
    assert source.info.groups == {"train": (0, 2), "valid": (1,)}
    assert "'demo_9'" in source.info.warnings[0]
    assert [ref.id for ref in selected(source, groups=("train",)).episodes()] == [0, 2]
    with pytest.raises(ConfigError, match="no group 'trian', did you mean 'train'"):
        selected(source, groups=("trian",))


def test_arrays_of_another_length_than_the_actions_are_refused(tmp_path):
    path = write(tmp_path / "a.hdf5", **{"obs/slow": lambda n: np.ones((n // 2, 3))})
    with pytest.raises(DataError, match=r"demo_0/obs/slow has 2 frames, 5 expected"):
        convert(open_source(path), tmp_path / "out.zarr")


def test_the_words_of_libero_are_every_episodes_task(tmp_path):
    path = write(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        words = '{"language_instruction": "open the drawer"}'
        file["data"].attrs["problem_info"] = words
    _, demo = opened(path)
    assert demo.tasks == ((0, "open the drawer"),)


# Files that name others: the bytes of the secret must appear nowhere.


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret.bin").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["group/state"] = np.frombuffer(SECRET[:240], np.uint8).reshape(-1, 3)
        file["actions"] = np.frombuffer(SECRET[:240], np.uint8).reshape(-1, 2)
    return tmp_path


def nothing_leaked(folder):
    for file in folder.rglob("*"):
        if file.is_file() and "secret" not in file.name:
            assert SECRET[:8] not in file.read_bytes()


def external_group(demo, folder):
    demo["obs"] = h5py.ExternalLink(str(folder / "secret.hdf5"), "group")


def external_array(demo, folder):
    demo["leak"] = h5py.ExternalLink(str(folder / "secret.hdf5"), "actions")


def raw_storage(demo, folder):
    raw = [(str(folder / "secret.bin"), 0, len(SECRET))]
    demo.create_dataset("leak", (5, 8), np.uint8, external=raw)


def virtual(demo, folder):
    layout = h5py.VirtualLayout((5, 2), np.uint8)
    layout[:] = h5py.VirtualSource(str(folder / "secret.hdf5"), "actions", (120, 2))[:5]
    demo.create_virtual_dataset("leak", layout)


def soft_link_that_leaves(demo, folder):
    demo["way_out"] = h5py.ExternalLink(str(folder / "secret.hdf5"), "/")
    demo["leak"] = h5py.SoftLink(f"{demo.name}/way_out/actions")


LEAKS = [external_group, external_array, raw_storage, virtual, soft_link_that_leaves]


@pytest.mark.parametrize("leak", LEAKS)
def test_arrays_in_other_files_are_left_out_and_said(secret, leak):
    with h5py.File(secret / "a.hdf5", "w") as file:
        for number in range(2):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = np.zeros((5, 2), np.float32)
            leak(demo, secret)
    report = convert(open_source(secret / "a.hdf5"), secret / "out.zarr")
    assert any("other file" in why or "another file" in why for why in report.left_out.values())
    assert EpisodeStore.open(secret / "out.zarr").keys() == ["action"]
    nothing_leaked(secret / "out.zarr")


@pytest.mark.parametrize("leak", [external_array, raw_storage, virtual, soft_link_that_leaves])
def test_a_later_demo_that_reaches_into_another_file_is_refused(secret, leak):
    with h5py.File(secret / "a.hdf5", "w") as file:
        for number in range(2):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = np.zeros((5, 2), np.float32)
            if number:
                leak(demo, secret)
            else:
                demo["leak"] = np.zeros((5, 2), np.uint8)
    with pytest.raises(DataError, match=r"demo_1/.*other file"):
        convert(open_source(secret / "a.hdf5"), secret / "out.zarr")
    assert not (secret / "out.zarr").exists()
    nothing_leaked(secret)


@pytest.mark.parametrize("place", ["data", "data/demo_0", "data/demo_0/actions"])
def test_links_out_of_the_file_are_refused_wherever_they_are_needed(secret, place):
    with h5py.File(secret / "a.hdf5", "w") as file:
        file[place] = h5py.ExternalLink(str(secret / "secret.hdf5"), "/")
    with pytest.raises(DataError, match="a link to another file"):
        open_source(secret / "a.hdf5")


def test_soft_links_within_the_file_are_followed_and_circles_are_not(tmp_path):
    path = write(tmp_path / "a.hdf5", lengths=(5,))
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/same"] = h5py.SoftLink("state")
        file["data/demo_0/obs/circle"] = h5py.SoftLink("circle")
        file["data/demo_0/obs/nested"] = file["data/demo_0/obs"]
    source, demo = opened(path)
    assert demo.read("same", 0, 1).tolist() == [[10, 10, 10]]
    assert "circle" in source.info.left_out["obs/circle"]
    assert any("nested too deeply" in why for why in source.info.left_out.values())


BOMB = """
import resource, sys
from dipole.data import DataError
from dipole.data.sources.registry import open_source

source = open_source(sys.argv[1])
demo = source.open(source.episodes()[0])
demo.read("state", 0, 1)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 2**27, used + 2**27))
try:
    demo.read("bomb", 0, 8)
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("with_checksum", [True, False])
def test_a_chunk_that_becomes_gigabytes_is_refused_within_128_mebibytes(tmp_path, with_checksum):
    path = write(tmp_path / "a.hdf5", lengths=(8,))
    deflate = zlib.compressobj(9)
    zeros = b"".join(deflate.compress(bytes(2**20)) for _ in range(200)) + deflate.flush()
    with h5py.File(path, "a") as file:
        options = {"chunks": (8, 2**17), "compression": "gzip", "fletcher32": with_checksum}
        bomb = file.create_dataset("data/demo_0/obs/bomb", (8, 2**17), "f4", **options)
        bomb.id.write_direct_chunk((0, 0), zeros, 0b10 if with_checksum else 0)
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, check=True
    )
    assert "a chunk of 4,194,304 bytes becomes larger than that" in done.stdout


def test_compressed_chunks_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 64, 64, 3), np.uint8)
    path = write(tmp_path / "a.hdf5", lengths=(9,))
    with h5py.File(path, "a") as file:
        options = {"chunks": (2, 64, 64, 3), "shuffle": True, "fletcher32": True}
        file.create_dataset("data/demo_0/obs/a", data=images, compression="gzip", **options)
        file.create_dataset("data/demo_0/obs/b", data=images, compression="lzf", chunks=True)
    _, demo = opened(path)
    assert np.array_equal(demo.read("a", 1, 8), images[1:8])
    assert np.array_equal(demo.read("b", 1, 8), images[1:8])


def test_chunks_of_absurd_size_and_unknown_filters_are_left_out_and_said(tmp_path):
    path = write(tmp_path / "a.hdf5", lengths=(1,))
    with h5py.File(path, "a") as file:
        options = {"chunks": (1, 2**28), "compression": "gzip"}
        file.create_dataset("data/demo_0/obs/large", (1, 2**28), "f4", **options)
    assert "has chunks of 1,073,741,824 bytes" in open_source(path).info.left_out["obs/large"]


def test_groups_that_hold_each_other_many_times_are_refused_at_once(tmp_path):
    path = write(tmp_path / "a.hdf5", lengths=(5,))
    with h5py.File(path, "a") as file:
        for number in range(30):  # 30 to the power of 6 places
            file[f"data/demo_0/obs/again_{number}"] = file["data/demo_0/obs"]
    with pytest.raises(DataError, match="more than 1000 entries, or groups that hold each other"):
        open_source(path)

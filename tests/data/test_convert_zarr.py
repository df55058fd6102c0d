"""zarr of others becomes an episode store: the original Push-T file, UMI's, damaged neighbours."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import ConversionRequest, convert, run
from dipole.data.inspection.validate import validate
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source
from dipole.data.store.zarr.image_codec import encode_image

no_jxl = pytest.mark.skipif(find_spec("pillow_jxl") is None, reason="pip install dipole[formats]")


def write_original_push_t(path, lengths=(6, 5)):
    """As the public dataset: zarr v2, Blosc, pictures as float32 of 0 to 255."""
    group = zarr.create_group(path, zarr_format=2)
    n = sum(lengths)
    rng = np.random.default_rng(0)
    arrays = {
        "img": rng.integers(0, 256, (n, 96, 96, 3)).astype(np.float32),
        "state": rng.uniform(0, 512, (n, 5)).astype(np.float32),
        "action": rng.uniform(0, 512, (n, 2)).astype(np.float32),
    }
    for key, values in arrays.items():
        blosc = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)
        chunks = (4, *values.shape[1:])
        options = {"shape": values.shape, "chunks": chunks, "dtype": values.dtype}
        group.create_array(f"data/{key}", compressors=blosc, **options)[:] = values
    ends = np.cumsum(lengths)
    group.create_array("meta/episode_ends", shape=ends.shape, chunks=ends.shape, dtype="i8")[:] = (
        ends
    )
    return arrays


def test_the_original_push_t_dataset_becomes_uint8_without_loss(tmp_path):
    arrays = write_original_push_t(tmp_path / "pusht.zarr")
    report = convert(open_source(tmp_path / "pusht.zarr"), tmp_path / "ours.zarr")
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert store["img"].dtype == np.uint8
    assert store.schema("img")["kind"] == "image"
    assert np.array_equal(store["img"][:], arrays["img"])
    assert np.array_equal(store["state"][:], arrays["state"])
    assert report.warnings == (
        f"{tmp_path / 'pusht.zarr'}: 'img' is float32: stored as uint8, whole numbers of 0 to 255",
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_in_groups_are_said_to_be_left_out(tmp_path, zarr_format):
    group = zarr.create_group(tmp_path / "theirs.zarr", zarr_format=zarr_format)
    for key in ("action", "obs/state", "obs/hand/width"):
        group.create_array(f"data/{key}", data=np.arange(10.0)[:, None])
    group.create_array("meta/episode_ends", data=np.array([10]))
    report = convert(open_source(tmp_path / "theirs.zarr"), tmp_path / "ours.zarr")
    assert report.keys == ("action",)
    assert list(report.left_out) == ["data/obs/hand/width", "data/obs/state"]
    assert report.left_out["data/obs/state"].endswith("write it as data/obs.state")
    found = [each.message for each in validate(tmp_path / "theirs.zarr").warnings]
    assert any(message.startswith("data/obs/state is not read: it lies in a") for message in found)


@no_jxl
def test_umi_pictures_in_jpeg_xl_are_read_and_its_pose_becomes_the_action(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)
    group = zarr.create_group(tmp_path / "umi.zarr", zarr_format=2)
    for key, width in (("robot0_eef_pos", 3), ("robot0_gripper_width", 1)):
        values = np.arange(5 * width, dtype=np.float32).reshape(5, width) + 1
        options = {"shape": values.shape, "chunks": values.shape, "dtype": "f4"}
        group.create_array(f"data/{key}", **options)[:] = values
    group.create_array("meta/episode_ends", shape=(1,), chunks=(1,), dtype="i8")[:] = [5]
    folder = tmp_path / "umi.zarr/data/camera0_rgb"
    folder.mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": list(frames.shape),
        "chunks": [1, *frames.shape[1:]],
        "dtype": "|u1",
        "compressor": {"id": "imagecodecs_jpegxl", "lossless": True},
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    (folder / ".zarray").write_text(json.dumps(metadata))
    for number, frame in enumerate(frames):
        (folder / f"{number}.0.0.0").write_bytes(encode_image(frame, "JXL"))
    request = ConversionRequest(
        tmp_path / "umi.zarr",
        tmp_path / "ours.zarr",
        concatenate={"action": ("robot0_eef_pos", "robot0_gripper_width")},
    )
    run(request)
    store = EpisodeStore.open(tmp_path / "ours.zarr")
    assert np.array_equal(store["camera0_rgb"][:], frames)
    assert store["action"][1].tolist() == [4, 5, 6, 2]


@pytest.mark.parametrize("problem", ["text", "another length"])
def test_an_array_that_cannot_be_read_hinders_nobody_who_leaves_it_out(tmp_path, problem):
    write_original_push_t(tmp_path / "pusht.zarr")
    group = zarr.open_group(tmp_path / "pusht.zarr", mode="a")
    shape, dtype = ((11,), "<U16") if problem == "text" else ((2, 3), "f4")
    group.create_array("data/goal", shape=shape, chunks=shape, dtype=dtype)[:] = 1
    with pytest.raises(DataError, match=r"'goal' cannot be read.*--keys .*action"):
        convert(open_source(tmp_path / "pusht.zarr"), tmp_path / "ours.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["pusht.zarr"]
    chosen = selected(open_source(tmp_path / "pusht.zarr"), ("state", "action"))
    convert(chosen, tmp_path / "ours.zarr")
    assert validate(tmp_path / "ours.zarr").ok
    assert EpisodeStore.open(tmp_path / "ours.zarr").keys() == ["action", "state"]

"""Pictures that are stored as floats, and transforms of pictures."""

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from dipole.data import (
    TRANSFORMS,
    DataError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Windows,
    WindowSpec,
)
from dipole.data.loading.image_values import as_uint8, image_range

SPEC = WindowSpec(2, 8, 4)
PICTURE = Features(
    {"image": Feature((8, 8, 3), kind="image", source="img")}, Feature((2,), kind="action")
)


def pictures(length=40):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (length, 8, 8, 3)).astype(np.uint8)


def original_pusht(path, values):
    """The layout of the public Push-T file: zarr v2, Blosc, pictures of any dtype."""
    group = zarr.create_group(path, zarr_format=2)
    arrays = {"img": values, "action": np.zeros((len(values), 2), np.float32)}
    for key, array in arrays.items():
        group.create_array(
            f"data/{key}",
            shape=array.shape,
            chunks=(16, *array.shape[1:]),
            dtype=array.dtype,
            compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE),
            config={"write_empty_chunks": True},
        )[:] = array
    ends = np.array([18, len(values)])
    group.create_array("meta/episode_ends", shape=(2,), chunks=(2,), dtype="i8")[:] = ends
    return EpisodeStore.open(path)


@pytest.mark.parametrize(
    ("dtype", "divisor"),
    [("f4", 1), ("f8", 1), ("f2", 1), ("f4", 255), ("f8", 255), ("f2", 255), ("i4", 1)],
)
def test_pictures_of_another_dtype_are_read_as_uint8_without_loss(tmp_path, dtype, divisor):
    values = (pictures() / divisor).astype(dtype)
    windows = Windows(original_pusht(tmp_path / "d.zarr", values), SPEC, PICTURE)
    found = windows.gather(np.arange(len(windows)))["observation"]["image"]
    assert found.dtype == np.uint8
    frames = windows.frames(np.arange(len(windows))).observed
    assert np.array_equal(found, pictures()[frames])
    top = 255 // divisor
    assert windows.readers["image"].note == (
        f"{tmp_path / 'd.zarr'}: feature 'image': pictures from 0 to {top}, stored as "
        f"{np.dtype(dtype)}, become uint8"
    )


def test_without_a_task_float_pictures_are_images(tmp_path):
    store = original_pusht(tmp_path / "d.zarr", pictures().astype("f4"))
    assert Features.of(store).observation["img"] == Feature((8, 8, 3), kind="image")


def test_float_arrays_of_other_numbers_are_no_images(tmp_path):
    heights = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("f4")
    store = original_pusht(tmp_path / "d.zarr", heights)
    assert Features.of(store).observation["img"].kind == "state"
    with pytest.raises(DataError, match="array 'img' is float32, and its values are no picture's"):
        Windows(store, SPEC, PICTURE)


@pytest.mark.parametrize("value", [0.5, 256, -1, np.nan])
def test_a_value_that_no_picture_has_is_refused_when_it_is_read(tmp_path, value):
    values = pictures().astype("f4")
    values[7, 3, 3, 0] = value  # none of the frames that the range is decided from
    store = original_pusht(tmp_path / "d.zarr", values)
    windows = Windows(store, SPEC, PICTURE)
    with pytest.raises(DataError, match=r"feature 'image': a value of .* stored as float32"):
        windows.gather(np.array([7]))


def test_pictures_of_nothing_but_0_and_1_are_of_either_range(tmp_path):
    store = original_pusht(tmp_path / "d.zarr", (pictures() > 128).astype("f4"))
    assert image_range(store["img"]) is None


@pytest.mark.parametrize(("top", "value"), [(255, 254.9), (1, 0.5), (1, 1.5), (255, np.inf)])
def test_only_whole_levels_are_taken(top, value):
    with pytest.raises(DataError, match="a value of"):
        as_uint8(np.full((1, 2), value, np.float32), top)


@TRANSFORMS.add("test_halved")
def halved(frames):
    return (frames / 255 / 2).astype(np.float32)


@TRANSFORMS.add("test_flipped")
def flipped(frames):
    return frames[:, :, ::-1]


@TRANSFORMS.add("test_centered")
def centered(frames):
    return frames.astype(np.float32) - 128


@TRANSFORMS.add("test_wide")
def wide(frames):
    return frames.astype(np.int64)


def transformed(tmp_path, name):
    with EpisodeWriter(tmp_path / "t.zarr") as writer:
        writer.add_episode({"img": pictures(20), "action": np.zeros((20, 2), np.float32)})
    image = Feature((8, 8, 3), kind="image", source="img", transform=name)
    store = EpisodeStore.open(tmp_path / "t.zarr")
    return Windows(store, SPEC, Features({"image": image}, PICTURE.action))


def test_a_pictures_transform_may_return_floats_from_0_to_1(tmp_path):
    windows = transformed(tmp_path, "test_halved")
    found = windows.gather(np.array([5]))["observation"]["image"][0, 1]
    assert np.array_equal(found, np.rint(pictures()[5] / 2.0).astype(np.uint8))


def test_a_pictures_transform_may_return_uint8(tmp_path):
    windows = transformed(tmp_path, "test_flipped")
    found = windows.gather(np.array([5]))["observation"]["image"][0, 1]
    assert np.array_equal(found, pictures()[5][:, ::-1])


@pytest.mark.parametrize("name", ["test_centered", "test_wide"])
def test_other_numbers_from_a_pictures_transform_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=f"transform '{name}' returns .* uint8, or floats from 0"):
        transformed(tmp_path, name).gather(np.array([5]))

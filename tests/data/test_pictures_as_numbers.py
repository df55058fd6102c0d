"""What looks like pictures and is stored otherwise: pictures, or numbers where that is said."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from dipole.apps.commands.data import main
from dipole.data import EpisodeStore, EpisodeWriter
from dipole.data.convert import convert
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.renamed import renamed
from dipole.data.sources.combine.retyped import retyped
from dipole.data.sources.combine.uint8_images import with_uint8_images
from dipole.data.sources.registry import open_source

sys.path.insert(0, str(Path(__file__).parent))
from memory_source import MemorySource, pair

RNG = np.random.default_rng(0)
WHOLE = RNG.integers(0, 256, (6, 16, 16, 3)).astype(np.float32)
OTHER = RNG.normal(size=(6, 16, 16, 3)).astype(np.float32)


def npz(path, **arrays):
    path.mkdir()
    np.savez(path / "0.npz", action=np.zeros((6, 2), np.float32), **arrays)
    return str(path)


@pytest.mark.parametrize("values", [WHOLE, OTHER], ids=["whole", "other"])
def test_dtype_keeps_numbers_that_look_like_pictures(tmp_path, values):
    source, made = npz(tmp_path / "theirs", img=values), str(tmp_path / "ours.zarr")
    assert main(["convert", source, made, "--fps", "10", "--dtype", "img=float32"]) == 0
    store = EpisodeStore.open(made)
    assert store.schema("img")["kind"] == "state"
    assert store["img"].dtype == np.float32
    assert np.array_equal(store["img"][:], values)


def test_dtype_keeps_them_in_lerobot_s_format_too(tmp_path):
    source, made = npz(tmp_path / "theirs", img=WHOLE), str(tmp_path / "lerobot")
    words = ["--fps", "10", "--dtype", "img=float32", "--to", "lerobot", "--task", "go"]
    assert main(["convert", source, made, *words]) == 0
    schema = open_source(made).info.frames["observation.img"]
    assert (schema.dtype, schema.kind) == (np.float32, "state")


def test_what_was_said_of_a_key_follows_its_name_and_its_dataset(tmp_path):
    source = retyped(MemorySource([pair(6, img=WHOLE)]), {"img": "float32"})
    source = joined([renamed(source, {"img": "camera"})] * 2)
    assert source.info.typed == {"camera"}
    assert with_uint8_images(source) is source
    convert(source, tmp_path / "ours.zarr")
    assert EpisodeStore.open(tmp_path / "ours.zarr")["camera"].dtype == np.float32


PICTURES = RNG.integers(0, 256, (6, 24, 32, 3), dtype=np.uint8)
FIRST = np.ascontiguousarray(np.moveaxis(PICTURES, -1, 1))


def robomimic(path, **arrays):
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((6, 2), np.float32)
        for key, values in arrays.items():
            file[f"data/demo_0/obs/{key}"] = values
    return str(path)


def diffusion_policy(path, **arrays):
    group = zarr.create_group(path)
    for key, values in {"action": np.ones((6, 2), np.float32), **arrays}.items():
        group.create_array(f"data/{key}", data=values)
    group.create_array("meta/episode_ends", data=np.array([6]))
    return str(path)


@pytest.mark.parametrize("write", [npz, robomimic, diffusion_policy])
def test_pictures_with_channels_first_are_turned_and_said(tmp_path, write, capsys):
    arrays = {"front": FIRST, "img": np.float32(FIRST) / 255, "wrist_depth": FIRST[:, :1] * 7.0}
    arrays["wrist_depth"] = arrays["wrist_depth"].astype(np.float32)
    source, made = write(tmp_path / "theirs", **arrays), str(tmp_path / "ours.zarr")
    assert main(["convert", source, made, "--fps", "10", "--images", "zstd"]) == 0
    store = EpisodeStore.open(made)
    kinds = {key: store.schema(key)["kind"] for key in store.arrays}
    assert kinds == {"action": "action", "front": "image", "img": "image", "wrist_depth": "depth"}
    assert np.array_equal(store["front"][:], PICTURES)
    assert np.array_equal(store["img"][:], PICTURES)
    assert np.array_equal(store["wrist_depth"][:], PICTURES[..., :1] * np.float32(7))
    printed = " ".join(capsys.readouterr().out.split())
    assert "'front' is uint8 [3, 24, 32], channels first: stored as pictures [24, 32, 3]" in printed
    assert "To store it as numbers: --dtype front=uint8" in printed


@pytest.mark.parametrize("write", [npz, robomimic, diffusion_policy])
def test_dtype_keeps_numbers_with_channels_first(tmp_path, write):
    source, made = write(tmp_path / "theirs", front=FIRST), str(tmp_path / "ours.zarr")
    assert main(["convert", source, made, "--dtype", "front=uint8"]) == 0
    store = EpisodeStore.open(made)
    assert store.schema("front")["kind"] == "state"
    assert np.array_equal(store["front"][:], FIRST)


def test_what_was_written_as_numbers_stays_so(tmp_path):
    with EpisodeWriter(tmp_path / "a.zarr", features={"touch": {"kind": "state"}}) as writer:
        writer.add_episode({"touch": FIRST, "action": np.zeros((6, 2))})
    convert(open_source(tmp_path / "a.zarr"), tmp_path / "b.zarr")
    assert np.array_equal(EpisodeStore.open(tmp_path / "b.zarr")["touch"][:], FIRST)


def test_small_arrays_and_other_floats_are_no_pictures():
    maps = pair(6, touch=np.zeros((6, 3, 4, 4), np.uint8), heat=np.zeros((6, 3, 24, 32), "f4"))
    source = MemorySource([maps])
    assert with_uint8_images(source) is source

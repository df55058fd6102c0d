"""What looks like pictures and is stored otherwise: pictures, or numbers where that is said."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.commands.data import main
from dipole.data import EpisodeStore
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

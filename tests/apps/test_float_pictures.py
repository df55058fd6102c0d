"""The first Push-T file, whose pictures are float32 from 0 to 255, trains as it stands."""

import numpy as np
import torch
import zarr
from numcodecs import Blosc

from dipole.apps.main import main
from dipole.policy.checkpoint import checkpoints_of, read_tensors

WORDS = [
    "task=pusht_image",
    "policy=unet_image_small",
    "policy.encoder.backbone={name: resnet, stem: patches, widths: [16, 32], blocks: [1, 1]}",
    "+policy.encoder.pooling.n_keypoints=4",
    "policy.encoder.dim=6",
    "policy.denoiser.down_dims=[8,16]",
    "policy.denoiser.time_embed_dim=8",
    "train.batch_size=4",
    "train.device=cpu",
    "train.amp=false",
    "train.deterministic=true",
    "train.steps=2",
]


def write(path, dtype):
    """The public file's layout: zarr v2, Blosc."""
    rng = np.random.default_rng(0)
    arrays = {
        "img": rng.integers(0, 256, (50, 96, 96, 3)).astype(dtype),
        "state": rng.uniform(0, 512, (50, 5)).astype("f4"),
        "action": rng.uniform(0, 512, (50, 2)).astype("f4"),
    }
    group = zarr.create_group(path, zarr_format=2)
    for key, array in arrays.items():
        group.create_array(
            f"data/{key}",
            shape=array.shape,
            chunks=(16, *array.shape[1:]),
            dtype=array.dtype,
            compressors=Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE),
            config={"write_empty_chunks": True},
        )[:] = array
    group.create_array("meta/episode_ends", shape=(2,), chunks=(2,), dtype="i8")[:] = [27, 50]
    return path


def test_float_pictures_train_as_uint8_ones_do(tmp_path, capsys):
    for dtype in ("f4", "u1"):
        data = write(tmp_path / f"{dtype}.zarr", dtype)
        assert main(["train", f"dataset={data}", f"output={tmp_path / dtype}", *WORDS]) == 0
    said = capsys.readouterr().out
    assert "feature 'image': pictures from 0 to 255, stored as float32, become uint8" in said
    ours, theirs = (
        read_tensors(checkpoints_of(tmp_path / dtype)[-1], "model") for dtype in ("f4", "u1")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

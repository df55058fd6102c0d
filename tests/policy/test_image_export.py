"""Image policies in other runtimes: bytes in, the same chunks out."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import features, make_policy
from test_pretrained import ARCHITECTURES

from dipole.data import Feature, Features
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.encoders.cameras.resize import resize, resizing_weights
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported
from dipole.policy.runtimes.runtime import is_installed

RUNTIMES = [name for name in ("openvino", "onnx") if is_installed(name)]
CAMERAS = {"front": (40, 48), "wrist": (16, 24)}

POLICIES = {
    "crop": {"crop": {"front": 24}},
    "resize and share": {"resize": {"front": [20, 24]}, "crop": 0.9, "shared_backbone": True},
    "tokens": {"token_dim": 12},
}


def check(policy, runtime, folder):
    policy.solver = DDIM(steps=3)  # ONNX unrolls them
    schema = export_policy(policy.eval(), runtime, folder)
    assert schema["parity"]["largest_difference"] <= 1e-4
    exported = load_exported(folder)
    dtypes = {port.name: port.dtype for port in exported.inputs}
    assert dtypes["observation.front"] == "uint8"
    observation = policy.fake_observation(3)
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    ours, theirs = (
        p.predict(observation, s) for p, s in zip((policy, exported), seeds, strict=True)
    )
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "kind",
    [kind if kind == "crop" else pytest.param(kind, marks=pytest.mark.heavy) for kind in POLICIES],
)
def test_an_exported_image_policy_gives_the_same_chunks(kind, runtime, tmp_path):
    policy = make_policy(features(**CAMERAS), **POLICIES[kind])
    check(policy, runtime, tmp_path / "export")


@pytest.mark.heavy
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_grey_cameras_are_exported_as_bytes_of_one_channel(runtime, tmp_path):
    grey = Features(
        {
            "front": Feature((24, 32, 1), kind="image"),
            "wrist": Feature((24, 32, 3), kind="image"),
        },
        Feature((2,), kind="action"),
    )
    check(make_policy(grey, shared_backbone=True, crop=20), runtime, tmp_path / "export")


@pytest.mark.heavy
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_backbones_by_name_are_exported_too(name, runtime, tmp_path):
    backbone = {"name": name, "architecture": ARCHITECTURES[name]}
    policy = make_policy(
        features(front=(40, 48)), backbone=backbone, pooling={"name": "mean"}, crop=[32, 48]
    )
    check(policy, runtime, tmp_path / "export")


@pytest.mark.parametrize("sizes", [(480, 224), (96, 84), (7, 12), (5, 5)])
def test_resizing_as_products_is_torch_s_own(sizes):
    have, want = sizes
    images = torch.rand(2, 3, have, 6)
    assert torch.allclose(
        resizing_weights(have, want) @ images, resize(images, (want, 6)), atol=3e-5
    )

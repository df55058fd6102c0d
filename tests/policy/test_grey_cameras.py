"""Grey pictures, [H, W, 1] bytes: what a network sees of them is what it sees of equal colours."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import cameras, make_policy

from dipole.data import Feature, Features
from dipole.policy.encoders.cameras.augmentation.augment import Augmentation
from dipole.policy.encoders.cameras.views import View, ViewConfig

GREY = torch.randint(256, (4, 2, 24, 32, 1), generator=torch.manual_seed(0)).to(torch.uint8)
COLOURS = GREY.expand(-1, -1, -1, -1, 3).contiguous()
AUGMENTED = {"brightness": 0.5, "contrast": 0.5, "noise": 0.2, "cutout": 0.3, "shift": 2}


def view(channels, augmentation=None, **options):
    shape = (24, 32, channels)
    return View(shape, ViewConfig(**options), Augmentation(**augmentation or {}), "thermal")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("augmentation", [{}, AUGMENTED, {"hue": 0.4, "saturation": 1.0}])
@pytest.mark.parametrize("options", [{}, {"crop": 16}, {"resize": (12, 20), "crop": 0.8}])
def test_a_grey_picture_is_seen_as_its_three_equal_colours(training, augmentation, options):
    seen = []
    for channels, pictures in ((1, GREY), (3, COLOURS)):
        torch.manual_seed(1)
        seen.append(view(channels, augmentation, **options).train(training)(pictures))
    assert torch.allclose(*seen, atol=1e-6)
    assert 0 <= float(seen[0].min()) < 0.2
    assert 0.8 < float(seen[0].max()) <= 1


def test_a_grey_picture_stays_bytes_where_its_colours_stay():
    assert view(1).pixels(GREY).dtype == torch.uint8


@pytest.mark.parametrize("shared", [False, True])
def test_a_policy_sees_and_shows_grey_cameras_on_the_scale_of_colours(shared):
    observed = {
        "front": Feature((24, 32, 3), kind="image"),
        "thermal": Feature((24, 32, 1), kind="image"),
    }
    wanted = Features(observed, Feature((2,), kind="action"))
    policy = make_policy(wanted, shared_backbone=shared).eval()
    encoder = cameras(policy)
    given = []
    for name in observed if not shared else ["front"]:
        encoder.encoder(name).backbone.register_forward_pre_hook(
            lambda _, inputs: given.append(inputs[0])
        )
    policy.encode({"front": COLOURS, "thermal": GREY})
    pictures = torch.cat(given).chunk(2)
    assert torch.equal(*pictures)
    assert -1 <= float(pictures[0].min()) < -0.9
    shown = policy.saliency({"front": COLOURS[0].numpy(), "thermal": GREY[0].numpy()})
    assert (shown["thermal"].picture == COLOURS[0, -1].numpy()).all()

"""What of a camera's pictures a policy sees, and that a run says so."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, WINDOW, cameras, features, make_policy

from dipole.data import ConfigError
from dipole.policy import Policy, PolicyConfig
from dipole.policy.encoders.cameras.augmentation.augment import LUMA, Augmentation, augmented
from dipole.policy.encoders.cameras.views import View, ViewConfig


def view(shape, **options):
    return View((*shape, 3), ViewConfig(**options), Augmentation(), "front")


@pytest.mark.parametrize(
    ("crop", "size"),
    [(1, (96, 128)), (1.0, (96, 128)), (0.5, (48, 64)), (84, (84, 84)), (2, (2, 2))],
)
def test_a_crop_up_to_1_is_a_share_and_a_larger_one_pixels(crop, size):
    assert view((96, 128), crop=crop).size == size


@pytest.mark.parametrize("crop", [0, -1, 0.0, 1.5, "84"])
def test_a_crop_that_is_neither_is_refused(crop):
    with pytest.raises(ConfigError, match="camera 'front'"):
        view((96, 128), crop=crop)


def test_a_crop_that_leaves_out_the_most_of_a_picture_is_warned_of_with_a_way_out():
    narrow = view((480, 640), crop=84)
    assert narrow.share == pytest.approx(0.023, abs=1e-3)
    lines = narrow.describe().splitlines()
    assert lines[0] == "camera front: 480×640, resized to 480×640, seen 84×84"
    assert lines[1].startswith("warning: of camera front the policy sees 2.3%")
    assert "policy.encoder.resize=[96,128]" in lines[1]
    assert "'policy.encoder.resize={front: [96, 128]}'" in lines[1]


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((96, 96), {"crop": 84}),  # the published one
        ((480, 640), {"resize": (96, 128), "crop": 84}),  # what the warning says
        ((480, 640), {}),
        ((480, 640), {"crop": 0.8}),
    ],
)
def test_a_crop_that_keeps_the_most_is_not(shape, options):
    assert "warning" not in view(shape, **options).describe()


def test_the_encoder_describes_each_camera_under_its_own_name():
    policy = make_policy(features(front=(32, 32), wrist=(96, 96)), crop={"wrist": 24})
    lines = [view.describe() for view in cameras(policy).views.values()]
    assert ["warning" in line for line in lines] == [False, True]
    assert "of camera wrist the policy sees 6.2%" in lines[1]


def test_a_grey_picture_is_what_the_standard_says():
    images = torch.rand(2, 3, 4, 5)
    grey = augmented(images, Augmentation(saturation=1.0), rows=2)
    luma = torch.tensor(LUMA)[:, None, None]
    expected = (images * luma).sum(1, keepdim=True)
    # Whatever the factor that was drawn: towards grey or away from it, grey itself stays.
    inside = ((grey > 0) & (grey < 1)).all(1, keepdim=True)
    found = (grey * luma).sum(1, keepdim=True)
    assert torch.allclose(found[inside], expected[inside], atol=1e-6)


def test_an_augmentation_that_does_not_exist_names_the_nearest():
    with pytest.raises(
        ConfigError, match=r"there is no policy.encoder.augment.shfit, did you mean 'shift'"
    ):
        make_policy(augment={"shfit": 3})


@pytest.mark.parametrize("value", [True, False])
def test_a_crop_that_is_neither_a_number_nor_a_size_is_refused(value):
    with pytest.raises(ConfigError, match=f"camera 'front': crop is {value}"):
        view((96, 128), crop=value)


def test_a_shift_that_could_leave_nothing_of_the_picture_is_refused():
    with pytest.raises(ConfigError, match=r"augment.shift is 33, and the network sees 33 x 41"):
        View((33, 41, 3), ViewConfig(), Augmentation(shift=33), "front")


@pytest.mark.parametrize(
    ("options", "augmentation", "said"),
    [
        ({"crop": 84}, {}, True),
        ({"crop": 84}, {"shift": 3}, False),
        ({"crop": 84}, {"crop": False}, False),
        ({"crop": 76}, {}, False),
        ({}, {}, False),  # nobody asked for a crop
    ],
)
def test_a_random_crop_that_has_nothing_to_cut_is_said(options, augmentation, said):
    made = View((84, 84, 3), ViewConfig(**options), Augmentation(**augmentation), "front")
    assert ("there is nothing to crop at random" in made.describe()) == said


@pytest.mark.parametrize("joined", [False, True])
def test_advice_names_the_settings_where_they_are(joined):
    options = {"backbone": {"name": "resnet18"}, "crop": 16}
    parts = {"cameras": {"name": "cameras", **options}, "state": {"name": "state"}}
    encoder = {"name": "join", "parts": parts} if joined else {"name": "image", **options}
    config = PolicyConfig(encoder, SMALL_UNET)
    with pytest.warns(UserWarning, match="to tell pictures apart"):
        policy = Policy(config, features(front=(96, 96)), WINDOW)
    where = "policy.encoder.parts.cameras.resize=" if joined else "policy.encoder.resize="
    assert where in policy.encoder.describe()[0]
    parts["cameras"]["crop"] = options["crop"] = 1
    options["pooling"] = parts["cameras"]["pooling"] = {"name": "pooled"}
    encoder = {"name": "join", "parts": parts} if joined else {"name": "image", **options}
    with pytest.raises(ConfigError, match="backbone 'resnet18' has no pooled output of its own"):
        Policy(PolicyConfig(encoder, SMALL_UNET), features(front=(96, 96)), WINDOW)

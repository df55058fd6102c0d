"""The picture of what an image policy looks at."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "policy"))
from eyes_fixture import SMALL_UNET, WINDOW, cameras, features, make_policy

from dipole.data import Feature, Features
from dipole.envs.media.marks import legend, with_heat
from dipole.envs.media.picture import Moment
from dipole.envs.media.saliency import looks_picture
from dipole.envs.media.video import pack_frame
from dipole.policy import Policy, PolicyConfig
from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput


def moment(policy) -> Moment:
    observation = {name: value[0].numpy() for name, value in policy.fake_observation(1).items()}
    return Moment(0, 3, observation, pack_frame(np.zeros((8, 8, 3), np.uint8)))


def test_a_keypoint_is_drawn_where_its_feature_is():
    policy = make_policy(pooling={"name": "spatial_softmax", "n_keypoints": 1}).eval()
    eye = cameras(policy).encoder("front")
    cells = torch.zeros(1, 32, 4, 4)
    cells[0, :, 1, 3] = 1  # of 4 x 4 cells of 8 pixels each: centred at (28, 12)
    eye.backbone.forward = lambda _: BackboneOutput(cells)
    torch.nn.init.constant_(eye.pooling.logits.weight, 50.0)
    (look,) = policy.saliency(moment(policy).observation).values()
    assert look.keypoints.tolist() == [pytest.approx([28, 12], abs=1e-3)]
    assert look.sharpness.tolist() == [pytest.approx(1)]
    assert look.strength[1, 3] == 1
    assert look.strength.sum() == 1


def test_the_picture_is_what_the_network_sees():
    policy = make_policy(crop=24).eval()
    seen = moment(policy)
    (look,) = policy.saliency(seen.observation).values()
    assert np.array_equal(look.picture, seen.observation["front"][-1, 4:28, 4:28])


@pytest.mark.parametrize("pooling", ["spatial_softmax", "mean"])
def test_every_camera_of_every_moment_is_drawn(pooling):
    policy = make_policy(features(front=(32, 32), wrist=(16, 24)), pooling={"name": pooling}).eval()
    one = looks_picture([moment(policy)], policy)
    assert one.dtype == np.uint8
    lines = 2 if pooling == "spatial_softmax" else 1
    assert one.shape == (lines * 22 + 320 + 32, 2 * (2 * 320 + 4 + 8), 3)
    assert one.std() > 0


def test_a_map_is_hottest_where_its_cell_is():
    grey = Image.new("RGB", (40, 40), (128, 128, 128))
    cells = np.zeros((4, 4))
    cells[1, 3] = 1
    red = np.asarray(with_heat(grey, cells)).astype(int)
    red = red[..., 0] - red[..., 2]
    assert red[15, 35] == red.max()
    assert not red[30:, :10].any()


def test_every_mark_is_explained_once():
    pictures = [legend(400, kinds, True) for kinds in (["influence"], ["attention", "strength"])]
    assert [picture.shape for picture in pictures] == [(44, 400, 3), (66, 400, 3)]


def test_policies_without_cameras_have_no_such_picture():
    state = Features({"agent_pos": Feature((2,))}, Feature((2,), kind="action"))
    blind = Policy(PolicyConfig({"name": "state"}, SMALL_UNET), state, WINDOW).eval()
    assert looks_picture([moment(blind)], blind) is None


def test_exports_have_no_such_picture():
    class Export:
        pass

    assert looks_picture([moment(make_policy().eval())], Export()) is None


def test_without_a_moment_there_is_no_picture():
    assert looks_picture([], make_policy().eval()) is None

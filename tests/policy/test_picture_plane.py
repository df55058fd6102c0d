"""Targets that are places in a picture, where random cuts move it."""

import pytest
import torch

from dipole.policy.encoders.cameras.augmentation.augment import Augmentation
from dipole.policy.encoders.cameras.views import View, ViewConfig
from dipole.policy.training.objectives.picture_plane import PicturePlane


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_a_place_in_a_picture_is_given_where_the_network_sees_it(shape):
    """Each pixel of the picture holds its column and row, which are its place."""
    torch.manual_seed(0)
    view = View((12, 20, 3), ViewConfig(crop=(8, 10)), Augmentation(shift=1), "front").train()
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(20), indexing="ij")
    pictures = torch.stack([columns, rows, rows], -1).to(torch.uint8).repeat(40, 2, 1, 1, 1)
    place = view.draw_place(40, torch.device("cpu"))
    at = view.pixels(pictures, place)[:, :2, 4, 5].view(40, 2, *shape).float()
    middle = view.eval().pixels(pictures)[:, :2, 4, 5].view(40, 2, *shape).float()
    assert len(at.unique()) > 4
    plane = PicturePlane("front", (20, 12))
    assert torch.allclose(plane.seen(at, {"front": view.moved(place)}), middle, atol=1e-5)
    wide = PicturePlane("front", (200, 120))  # of ten units a pixel
    found = wide.seen(10 * at, {"front": view.moved(place)})
    assert torch.allclose(found, 10 * middle, atol=1e-4)
    assert plane.seen(at, {}) is at

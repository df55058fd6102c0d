"""Changes of training pictures: nothing at strength 0, the same for a window, in range, exact."""

import pytest
import torch

from dipole.data import ConfigError
from dipole.policy.encoders.cameras.augmentation.augment import LUMA, Augmentation, augmented
from dipole.policy.encoders.cameras.augmentation.colours import (
    apply_map,
    change_colours,
    mean_colours,
)
from dipole.policy.encoders.cameras.augmentation.cutout import cut_out, rectangles
from dipole.policy.encoders.cameras.augmentation.grain import add_noise, soften
from dipole.policy.encoders.cameras.views import View, ViewConfig

ALL = {
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.4},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.2},
    "cutout": {"cutout": 0.8},
    "cutout of noise": {"cutout": 0.8, "cutout_fill": "noise", "cutout_count": 3},
    "blur": {"blur": 1.0},
    "noise": {"noise": 0.3},
}


def pictures(rows=6, frames=2, height=12, width=10, like=torch.contiguous_format):
    torch.manual_seed(1)
    return torch.rand(rows * frames, 3, height, width).contiguous(memory_format=like)


def test_without_strengths_pictures_are_those_that_were_given():
    images = pictures()
    assert augmented(images, Augmentation(), rows=6) is images
    assert not Augmentation(shift=3).changes_colours
    view = View((12, 10, 3), ViewConfig(), Augmentation(crop=False), "front")
    stored = torch.randint(256, (3, 2, 12, 10, 3), dtype=torch.uint8)
    assert torch.equal(view.train()(stored), view.eval()(stored))


@pytest.mark.parametrize("name", ALL)
def test_every_sample_is_changed_otherwise_and_its_frames_alike(name):
    same = pictures(rows=1, frames=1).expand(40, -1, -1, -1).clone()
    assert Augmentation(**ALL[name]).changes_colours
    torch.manual_seed(0)
    changed = augmented(same, Augmentation(**ALL[name]), rows=20).unflatten(0, (20, 2))
    if name == "noise":  # a sensor's: each frame has its own
        assert not torch.equal(changed[:, 0], changed[:, 1])
    else:
        assert torch.equal(changed[:, 0], changed[:, 1])
    amounts = (changed - same.unflatten(0, (20, 2))).abs().mean((1, 2, 3, 4))
    assert len(set(amounts.tolist())) >= 10
    assert 0 <= changed.min() <= changed.max() <= 1


def test_frames_of_different_pictures_have_one_map_of_colours():
    """Contrast is about the window's mean, so that one colour stays one colour in both frames."""
    images = pictures(rows=5)
    images[:, :, 0, 0] = 0.5
    torch.manual_seed(0)
    strong = Augmentation(brightness=0.2, contrast=0.3, saturation=0.5, hue=0.1)
    found = augmented(images, strong, rows=5).unflatten(0, (5, 2))[..., 0, 0]
    assert torch.allclose(found[:, 0], found[:, 1], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("like", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_stays_and_changes_nothing(name, like):
    torch.manual_seed(0)
    expected = augmented(pictures(), Augmentation(**ALL[name]), rows=6)
    torch.manual_seed(0)
    found = augmented(pictures(like=like), Augmentation(**ALL[name]), rows=6)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.is_contiguous(memory_format=like)


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_is_the_same_change_and_inference_has_none(name):
    view = View((12, 10, 3), ViewConfig(crop=8), Augmentation(**ALL[name]), "front").train()
    stored = torch.randint(256, (3, 2, 12, 10, 3), dtype=torch.uint8)
    kept = stored.clone()
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(view(stored))
    assert torch.equal(*found)
    assert torch.equal(stored, kept)
    assert torch.equal(
        view.eval()(stored) * 255, stored.flatten(0, 1).permute(0, 3, 1, 2)[:, :, 2:10, 1:9]
    )


def test_brightness_is_a_factor_evenly_drawn():
    images = torch.full((4000, 3, 2, 2), 0.4)
    torch.manual_seed(0)
    factors = augmented(images, Augmentation(brightness=0.5), rows=4000)[:, 0, 0, 0] / 0.4
    assert factors.min() > 0.5 - 1e-6
    assert factors.max() < 1.5 + 1e-6
    assert factors.mean() == pytest.approx(1, abs=0.02)
    assert factors.std() == pytest.approx(1 / 12**0.5, abs=0.01)


def test_contrast_moves_colours_away_from_the_mean_s_grey_or_towards_it():
    images = 0.3 + 0.4 * pictures(rows=8, frames=1)
    grey = (mean_colours(images, 8) * torch.tensor(LUMA)).sum(1)[:, None, None, None]
    torch.manual_seed(0)
    ratio = (augmented(images, Augmentation(contrast=0.5), rows=8) - grey) / (images - grey)
    factors = ratio.flatten(1).median(1).values
    assert torch.allclose(ratio, factors[:, None, None, None].expand_as(ratio), atol=1e-2)
    assert 0.5 <= factors.min() < 1 < factors.max() <= 1.5


def test_hue_turns_colours_about_grey_and_keeps_luma():
    luma = torch.tensor(LUMA)[:, None, None]
    images = 0.4 + 0.2 * pictures(rows=6, frames=1)  # far from clipping
    torch.manual_seed(0)
    turned, mean = change_colours(images, mean_colours(images, 6), 6, 0, 0, 0, 0.5)
    inside = ((turned > 0) & (turned < 1)).all(1)
    assert torch.allclose((turned * luma).sum(1)[inside], (images * luma).sum(1)[inside], atol=1e-5)
    assert torch.allclose(mean, mean_colours(turned, 6), atol=1e-2)
    greys = torch.rand(6, 1, 4, 4).expand(-1, 3, -1, -1).contiguous()
    assert torch.allclose(augmented(greys, Augmentation(hue=0.5), rows=6), greys, atol=1e-5)
    assert (turned - images).abs().mean() > 0.02


def test_one_map_is_the_four_changes_one_after_another():
    images = 0.4 + 0.2 * pictures(rows=1, frames=2)
    torch.manual_seed(0)
    together = augmented(
        images, Augmentation(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1), rows=1
    )
    torch.manual_seed(0)
    for change in ({"brightness": 0.2}, {"contrast": 0.2}, {"saturation": 0.2}, {"hue": 0.1}):
        images = augmented(images, Augmentation(**change), rows=1)
    assert torch.allclose(together, images, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (2, 3), (3, 3)])  # blocks of 4, 2 and 1 pixels
def test_a_map_is_a_matrix_and_an_offset_for_each_pixel(size):
    images = torch.rand(4, 3, *size)
    matrix, offset = torch.rand(2, 3, 3), torch.rand(2, 3)
    expected = torch.einsum("rij,rfjhw->rfihw", matrix, images.unflatten(0, (2, 2))) + offset.view(
        2, 1, 3, 1, 1
    )
    for like in (torch.contiguous_format, torch.channels_last):
        found = apply_map(images.contiguous(memory_format=like), matrix, offset)
        assert torch.allclose(found, expected.flatten(0, 1), atol=1e-6)


def test_a_mask_is_a_rectangle_with_sides_up_to_its_share_and_a_centre_anywhere():
    torch.manual_seed(0)
    masks = rectangles(20_000, 1, 0.5, (20, 40))
    tall, wide = masks.any(2).sum(1), masks.any(1).sum(1)
    assert torch.equal(masks.flatten(1).sum(1), tall * wide)  # all of what its sides span
    assert tall.max() == 10
    assert wide.max() == 20
    often = masks.float().mean(0)
    # Far from edges an axis hides a place with probability mean side / length, a quarter each;
    # the outermost pixel, half a pixel from the edge, with 0.149 and 0.137.
    assert often[10, 20] == pytest.approx(0.25**2, abs=0.006)
    assert often[0, 0] == pytest.approx(0.149 * 0.137, abs=0.004)


def test_cutout_hides_with_the_window_s_mean_colour_and_leaves_the_rest():
    images = pictures()
    torch.manual_seed(0)
    mask = rectangles(6, 2, 0.6, (12, 10))
    torch.manual_seed(0)
    found = cut_out(images, mean_colours(images, 6), 6, 0.6, 2)
    hidden = mask.repeat_interleave(2, 0)[:, None].expand_as(images)
    means = mean_colours(images, 6).repeat_interleave(2, 0)[:, :, None, None].expand_as(images)
    assert hidden.any()
    assert torch.equal(found[hidden], means[hidden])
    assert torch.equal(found[~hidden], images[~hidden])


def test_blur_is_the_binomial_average_that_keeps_even_pictures():
    point = torch.zeros(1, 3, 5, 5)
    point[..., 2, 2] = 16
    torch.manual_seed(0)
    found = soften(point, 1.0, 1)[0, 0]
    share = (16 - found[2, 2]) / 12
    binomial = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0]))
    expected = (1 - share) * point[0, 0, 1:4, 1:4] + share * binomial
    assert torch.allclose(found[1:4, 1:4], expected, atol=1e-5)
    even = torch.full((2, 3, 6, 6), 0.3)
    assert torch.allclose(soften(even, 1.0, 1), even)


def test_noise_is_normal_and_of_each_picture_by_itself():
    grey = torch.full((64, 3, 24, 24), 0.5)
    torch.manual_seed(0)
    noise = add_noise(grey, 0.1, 64) - 0.5
    stds = noise.flatten(1).std(1)
    assert stds.max() < 0.11
    assert stds.mean() == pytest.approx(0.05, abs=0.01)
    assert noise.mean().abs() < 2e-3
    assert torch.corrcoef(noise.flatten(1)).fill_diagonal_(0).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hue": 0.6}, "augment.hue is 0.6: a share of the circle"),
        ({"cutout": 1.2}, "augment.cutout is 1.2: between 0 and 1"),
        ({"cutout_count": 0}, "augment.cutout_count is 0: at least 1"),
        ({"cutout_fill": "black"}, "augment.cutout_fill is 'black': choose mean or noise"),
        ({"blur": -1}, "augment.blur is -1"),
        ({"noise": 2}, "augment.noise is 2"),
    ],
)
def test_augmentations_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**options)

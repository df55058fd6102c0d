"""Pictures and depth in another size, in a policy: bytes stay bytes, and depth is no average."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from dipole.data.transforms.pictures import resized_depth
from dipole.policy.encoders.cameras.augmentation.augment import Augmentation
from dipole.policy.encoders.cameras.resize import resize
from dipole.policy.encoders.cameras.views import View, ViewConfig

SETTINGS = settings(max_examples=100, deadline=None)
lengths = st.integers(1, 64)
sizes = st.tuples(lengths, lengths)


def pictures(count, size, channels=3):
    """uint8 [count, C, H, W] in the memory of [count, H, W, C], as pictures are stored."""
    stored = np.random.default_rng(0).integers(0, 256, (count, *size, channels), dtype=np.uint8)
    return torch.from_numpy(stored).permute(0, 3, 1, 2)


def view(shape, augmentation=None, is_depth=False, **options):
    config = ViewConfig(**options)
    return View(shape, config, Augmentation(**augmentation or {}), "front", is_depth)


def traced(module, given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, given, check_trace=False)


class Made(TorchDispatchMode):
    """The name of each operation, and the tensors that it returned."""

    def __init__(self):
        super().__init__()
        self.names, self.tensors = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.names.append(func.overloadpacket.__name__)
        self.tensors += [made] if isinstance(made, torch.Tensor) else []
        return made


@given(sizes, sizes, st.sampled_from([1, 3]))
@SETTINGS
def test_bytes_are_within_one_level_of_what_floats_become(size, wanted, channels):
    given = pictures(2, size, channels)
    found = resize(given, wanted)
    assert found.dtype == (torch.uint8 if wanted[1] > 1 else torch.float32)
    assert found.shape == (2, channels, *wanted)
    right = resize(given.float(), wanted).round()
    assert (found.round().float() - right).abs().max() <= 1


@given(sizes, sizes, st.integers(0, 255))
@SETTINGS
def test_a_picture_of_one_colour_stays_one(size, wanted, level):
    constant = torch.full((1, *size, 3), level, dtype=torch.uint8).permute(0, 3, 1, 2)
    assert (resize(constant, wanted).round() == level).all()


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((48, 64), (10, 13)), ((96, 96), (84, 84)), ((40, 48), (20, 24)), ((7, 9), (12, 9))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_exported_graph_computes_the_bytes_themselves(size, wanted, channels):
    seen = view((*size, channels), resize=wanted, crop=0.9).eval()
    given = pictures(6, size, channels).permute(0, 2, 3, 1).unflatten(0, (3, 2))
    ours, theirs = seen(given), traced(seen, given)(given)
    apart = (255 * (ours - theirs)).abs().round()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() <= 1e-3  # sums of another order, at the middle of two levels


@pytest.mark.heavy
@pytest.mark.parametrize("is_depth", [False, True])
def test_torch_export_follows_a_view_that_resizes(is_depth):
    seen = view((12, 16, 1 if is_depth else 3), is_depth=is_depth, resize=(5, 7)).eval()
    given = pictures(4, (12, 16)).permute(0, 2, 3, 1).unflatten(0, (2, 2))
    given = given[..., :1] / 255 if is_depth else given
    assert torch.equal(torch.export.export(seen, (given,)).module()(given), seen(given))


@pytest.mark.parametrize("training", [False, True])
def test_no_float_is_made_of_a_picture_before_its_size_is_changed(training):
    seen = view((48, 64, 3), resize=(24, 32), crop=20).train(training)
    given = pictures(8, (48, 64)).permute(0, 2, 3, 1).unflatten(0, (4, 2))
    with Made() as made:
        found = seen.pixels(given)
    assert found.dtype == torch.uint8
    assert "_upsample_bilinear2d_aa" in made.names
    assert [each.shape for each in made.tensors if each.is_floating_point()] == []


def test_stored_pictures_keep_their_memory_through_resizing():
    given = pictures(2, (48, 64))
    assert given.is_contiguous(memory_format=torch.channels_last)  # torch's fast kernel wants it
    assert resize(given, (24, 32)).is_contiguous(memory_format=torch.channels_last)


def test_a_picture_that_is_neither_cut_nor_moved_is_handed_on_as_it_is():
    stored = torch.randint(256, (4, 2, 12, 10, 3), dtype=torch.uint8)
    seen = view((12, 10, 3)).train().pixels(stored)
    assert torch.equal(seen, stored.flatten(0, 1).permute(0, 3, 1, 2))
    assert seen.data_ptr() == stored.data_ptr()


@given(sizes, sizes)
@SETTINGS
def test_depth_is_what_a_dataset_of_that_size_has(size, wanted):
    depth = np.random.default_rng(0).random((2, *size, 1), dtype=np.float32)
    stored = torch.from_numpy(resized_depth(depth, wanted)[None])
    whole = view((*wanted, 1), is_depth=True).eval()(stored)
    seen = view((*size, 1), is_depth=True, resize=wanted).eval()(torch.from_numpy(depth[None]))
    assert torch.equal(seen, whole)


def test_depth_is_the_nearest_pixel_in_an_exported_graph_too():
    seen = view((12, 10, 1), is_depth=True, resize=(5, 7)).eval()
    depth = torch.rand(1, 2, 12, 10, 1)
    assert torch.equal(traced(seen, depth)(torch.flip(depth, [2])), seen(torch.flip(depth, [2])))

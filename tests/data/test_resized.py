"""Pictures in another size."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipole.apps.main import main
from dipole.data import ConfigError, DataError, EpisodeStore
from dipole.data.convert import ConversionRequest, convert, run
from dipole.data.sources import source as source_module
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.resized import parse_resize, resized
from dipole.data.transforms.pictures import resized_depth, resized_pictures
from dipole.policy.encoders.cameras.resize import resize

sys.path.insert(0, str(Path(__file__).parent))
from array_source import SETTINGS, ArraySource, column, whole
from lerobot_corpus import CAMERA, brightness


def seen(n=6, shape=(24, 32, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def with_depth(source, key, dtype=np.float32):
    schema = replace(source.info.frames[key], kind="depth", dtype=np.dtype(dtype), units="m")
    source.info = replace(source.info, frames={**source.info.frames, key: schema})
    return source


sides = st.integers(1, 40)


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from([1, 2, 3, 4]))
@SETTINGS
def test_pictures_are_what_the_encoder_would_make_of_them(size, wanted, channels):
    pictures = seen(2, (*size, channels))
    found = resized_pictures(pictures, wanted)
    assert found.dtype == np.uint8
    assert found.shape == (2, *wanted, channels)
    right = resize(torch.from_numpy(pictures).permute(0, 3, 1, 2).float(), wanted)
    assert np.abs(found - right.permute(0, 2, 3, 1).numpy()).max() <= 1.01  # of 255: rounded twice


def test_a_batch_of_histories_is_resized_picture_by_picture():
    frames = seen(6).reshape(2, 3, 24, 32, 3)
    found = resized_pictures(frames, (12, 16))
    assert found.shape == (2, 3, 12, 16, 3)
    assert np.array_equal(found[1, 2], resized_pictures(frames[1, 2], (12, 16)))
    assert resized_pictures(frames, (24, 32)) is frames


@given(st.tuples(sides, sides), st.tuples(sides, sides))
@SETTINGS
def test_depth_is_never_a_distance_between_two(size, wanted):
    depth = np.random.default_rng(0).random((2, *size, 1), dtype=np.float32)
    found = resized_depth(depth, wanted)
    assert found.shape == (2, *wanted, 1)
    assert all(np.isin(new, old).all() for new, old in zip(found, depth, strict=True))


def test_depth_is_taken_at_the_middle_of_what_a_pixel_covers():
    depth = np.arange(6, dtype=np.uint16).reshape(1, 1, 6)
    assert resized_depth(depth, (1, 2)).tolist() == [[[1, 4]]]
    assert resized_depth(depth, (2, 3)).tolist() == [[[1, 3, 5], [1, 3, 5]]]


def test_other_frames_are_refused():
    with pytest.raises(ConfigError, match=r"uint8 \[\.\.\., H, W, C\], not float32"):
        resized_pictures(np.zeros((2, 4, 4, 3), np.float32), (2, 2))
    with pytest.raises(ConfigError, match="at least 1 pixel"):
        resized_pictures(seen(), (0, 4))
    with pytest.raises(ConfigError, match=r"\[N, H, W\]"):
        resized_depth(np.zeros((4, 4)), (2, 2))


def test_all_cameras_have_one_size_but_those_with_their_own():
    source = ArraySource(
        {"front": seen(), "wrist": seen(), "depth": np.ones((6, 24, 32, 1)), "action": np.ones(6)}
    )
    source = with_depth(source, "depth")
    small = resized(source, parse_resize(["12x16", "wrist=6x8"]))
    shapes = {key: schema.shape for key, schema in small.info.frames.items()}
    assert shapes == {"front": (12, 16, 3), "wrist": (6, 8, 3), "depth": (12, 16, 1), "action": ()}
    assert {key: whole(small, key).shape[1:] for key in shapes} == shapes
    assert np.array_equal(whole(small, "front"), resized_pictures(seen(), (12, 16)))
    assert small.info.history == ("resized front 12x16, wrist 6x8, depth 12x16",)
    assert not small.info.warnings


def test_one_camera_alone_and_a_size_that_it_has():
    source = ArraySource({"front": seen(), "wrist": seen(), "action": np.ones(6)})
    assert resized(source, parse_resize(["24x32"])) is source
    assert resized(source, {}) is source
    alone = resized(source, parse_resize(["wrist=12x16"]))
    assert np.array_equal(whole(alone, "front"), seen())


def test_a_stretched_picture_is_spoken_of():
    source = ArraySource({"front": seen(), "action": np.ones(6)})
    (said,) = resized(source, parse_resize(["12x12"])).info.warnings
    assert "'front', 24x32, becomes 12x12" in said
    assert "12x16 would keep it" in said


def test_a_part_of_an_episode_is_read_in_bounded_memory(monkeypatch):
    asked = []

    class Watched(ArraySource):
        def open(self, ref):
            episode = super().open(ref)
            read = episode.read
            counted = lambda key, a, b: asked.append(b - a) or read(key, a, b)  # noqa: E731
            object.__setattr__(episode, "read", counted)
            return episode

    monkeypatch.setattr(source_module, "READ_BYTES", 2 * 24 * 32 * 3)
    source = resized(Watched({"front": seen(7), "action": np.ones(7)}), {"": (2, 2)})
    found = source.open(source.episodes()[0]).read("front", 1, 7)
    assert np.array_equal(found, resized_pictures(seen(7)[1:], (2, 2)))
    assert asked == [2, 2, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["240"], "HEIGHTxWIDTH"),
        (["wrist="], "HEIGHTxWIDTH"),
        (["=2x3"], "HEIGHTxWIDTH"),
        (["-2x3"], "HEIGHTxWIDTH"),
        (["0x3"], "1 to 8192 pixels"),
        (["10000x3"], "1 to 8192 pixels"),
        (["2x3", "4x5"], "the size of all pictures is said twice"),
        (["a=2x3", "a=4x5"], "a is said twice"),
    ],
)
def test_sizes_that_are_none(words, said):
    with pytest.raises(ConfigError, match=said):
        parse_resize(words)


@given(st.dictionaries(st.text("axz_.-", max_size=5), st.tuples(sides, sides), max_size=4))
@SETTINGS
def test_sizes_are_read_as_they_are_written(sizes):
    words = [f"{key}={h}x{w}" if key else f"{h}×{w}" for key, (h, w) in sizes.items()]
    assert parse_resize(words) == sizes


def test_keys_that_are_no_pictures():
    source = ArraySource({"front": seen(), "action": np.ones((6, 2))})
    with pytest.raises(ConfigError, match=r"resize action: its frames \[2\] are no pictures"):
        resized(source, parse_resize(["action=2x2"]))
    with pytest.raises(ConfigError, match="no key 'frnt', did you mean 'front'"):
        resized(source, parse_resize(["frnt=2x2"]))
    with pytest.raises(DataError, match="none of the keys taken is a picture"):
        resized(ArraySource({"action": np.ones((6, 2))}), parse_resize(["2x2"]))


def test_two_sizes_are_joined_as_one(tmp_path):
    for name, shape in (("a", (24, 32, 3)), ("b", (48, 64, 3))):
        convert(
            ArraySource({"front": seen(5, shape), "action": column(*range(5))}), tmp_path / name
        )
    request = ConversionRequest(
        tmp_path / "a", tmp_path / "both", also=(tmp_path / "b",), resize=("12x16",)
    )
    run(request)
    store = EpisodeStore.open(tmp_path / "both")
    right = [resized_pictures(seen(5, shape), (12, 16)) for shape in ((24, 32, 3), (48, 64, 3))]
    assert np.array_equal(store["front"][:], np.concatenate(right))


def test_sources_of_two_sizes_without_it_are_refused():
    two = [ArraySource({"front": seen(3, s), "action": np.ones(3)}) for s in ((4, 4, 3), (8, 8, 3))]
    with pytest.raises(DataError):
        joined(two)
    assert joined([resized(each, {"": (4, 4)}) for each in two]).info.frames["front"].shape[0] == 4


def test_video_becomes_pictures(filmed, tmp_path):
    small = resized(filmed, parse_resize(["8x12"]))
    assert small.open(small.episodes()[0]).clip(CAMERA) is None
    convert(small, tmp_path / "b")
    store = EpisodeStore.open(tmp_path / "b")
    assert store[CAMERA][:].shape[1:] == (8, 12, 3)
    assert brightness(store) == list(range(35))


def test_the_command_refuses_what_is_no_size_before_it_opens_anything(capsys):
    assert main(["data", "convert", "absent", "b.zarr", "--resize", "240"]) == 2
    assert "--resize '240': HEIGHTxWIDTH for all pictures" in capsys.readouterr().err

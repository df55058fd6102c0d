"""Instructions as features: words of tasks as bytes, in windows and in batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import (
    ConfigError,
    DataError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Windows,
    WindowSpec,
    decode_text,
    encode_text,
    make_loader,
)

SPEC = WindowSpec(n_obs_steps=2, horizon=4, n_action_steps=2)
FEATURES = Features(
    {"state": Feature((1,)), "instruction": Feature((8,), kind="text")},
    Feature((1,), kind="action"),
)


def store_of(path, *tasks) -> EpisodeStore:
    with EpisodeWriter(path, fps=10) as writer:
        for task in tasks:
            frames = np.zeros((6, 1), np.float32)
            writer.add_episode({"state": frames, "action": frames}, task=task)
    return EpisodeStore.open(path)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8))
def test_a_text_survives_its_encoding(text):
    encoded = encode_text(text, 32)
    assert encoded.dtype == np.uint8
    assert encoded.shape == (32,)
    assert decode_text(encoded) == text


def test_a_text_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"'to the right' has 12 bytes, but .* \[8\]"):
        encode_text("to the right", 8)
    with pytest.raises(ConfigError, match="null character"):
        encode_text("a\0b", 8)


def test_windows_hold_the_words_of_each_frame(tmp_path):
    store = store_of(tmp_path / "d.zarr", "left", ((0, "right"), (3, "back")))
    windows = Windows(store, SPEC, FEATURES)
    everything = windows.gather(np.arange(len(windows)))["observation"]["instruction"]
    assert everything.dtype == np.uint8
    found = [[decode_text(frame) for frame in row] for row in everything]
    assert found[0] == ["left", "left"]
    of_the_second = found[len(found) // 2 :]
    assert of_the_second[0] == ["right", "right"]
    assert ["right", "back"] in of_the_second
    assert of_the_second[-1] == ["back", "back"]
    assert sorted(windows.statistics()) == ["action", "state"]


def test_batches_hold_text_resident_and_streamed(tmp_path):
    windows = Windows(store_of(tmp_path / "d.zarr", "left", "right"), SPEC, FEATURES)
    for limit in (None, 0):
        with make_loader(
            windows, batch_size=4, seed=0, memory_limit_bytes=limit, workers=0
        ) as loader:
            assert loader.resident == (limit is None)
            batch = next(loader.batches())["observation"]["instruction"]
        assert batch.shape == (4, 2, 8)
        assert batch.dtype == torch.uint8
        assert {decode_text(row[0]) for row in batch} <= {"left", "right"}


def test_a_dataset_without_words_is_refused(tmp_path):
    with pytest.raises(DataError, match="no words of tasks are recorded"):
        Windows(store_of(tmp_path / "d.zarr", ""), SPEC, FEATURES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (2, 8)}, r"shape is \[longest in bytes\]"),
        ({"shape": (8,), "source": "state"}, "source is left out"),
        ({"shape": (8,), "columns": (0,)}, "no columns, transform or normalize"),
        ({"shape": (8,), "normalize": "limits"}, "no columns, transform or normalize"),
    ],
)
def test_text_has_a_length_and_nothing_else(options, message):
    with pytest.raises(ConfigError, match=message):
        Feature(kind="text", **options)

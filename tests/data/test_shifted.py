"""Keys of a source taken from later frames."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data import ConfigError, EpisodeStore, EpisodeWriter
from dipole.data.convert import ConversionRequest, run
from dipole.data.inspection.validate import validate
from dipole.data.sources.combine.shifted import parse_shift, shifted

sys.path.insert(0, str(Path(__file__).parent))
from array_source import SETTINGS, ArraySource, column, whole


def test_an_action_of_the_next_frame_repeats_the_last():
    source = ArraySource({"action": column(0, 1, 2), "state": column(0, 1, 2)})
    made = shifted(source, {"action": 1})
    assert whole(made, "action").ravel().tolist() == [1, 2, 2]
    assert whole(made, "state").ravel().tolist() == [0, 1, 2]


@SETTINGS
@given(st.integers(1, 12), st.integers(1, 20), st.data())
def test_any_piece_is_that_of_the_frames_later(n, by, data):
    made = shifted(ArraySource({"action": np.arange(n, dtype=np.float32)[:, None]}), {"action": by})
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start, n))
    found = made.open(made.episodes()[0]).read("action", start, stop)
    assert found.ravel().tolist() == [min(t + by, n - 1) for t in range(start, stop)]


def test_pictures_and_what_is_no_number_of_frames_are_refused():
    source = ArraySource({"action": column(0, 1), "camera": np.zeros((2, 4, 4, 3), np.uint8)})
    with pytest.raises(ConfigError, match="shift camera=1: pictures"):
        shifted(source, {"camera": 1})
    for word in ("0", "-1", "1.5", "next"):
        with pytest.raises(ConfigError, match=f"shift action={word}: KEY=FRAMES"):
            parse_shift({"action": word})


def test_what_validate_says_is_mended_by_what_it_names(tmp_path):
    rng = np.random.default_rng(0)
    with EpisodeWriter(tmp_path / "a.zarr", fps=10) as writer:
        for _ in range(2):
            path = rng.normal(size=(150, 2)).cumsum(0).cumsum(0)
            writer.add_episode({"state": path, "action": path})
    assert any(
        "--shift action=1" in each.message for each in validate(tmp_path / "a.zarr").warnings
    )
    run(ConversionRequest(tmp_path / "a.zarr", tmp_path / "b.zarr", shift={"action": 1}))
    store = EpisodeStore.open(tmp_path / "b.zarr")
    assert np.array_equal(store["action"][:149], store["state"][1:150])
    assert not any("--shift" in each.message for each in validate(tmp_path / "b.zarr").warnings)

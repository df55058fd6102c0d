"""Sources with columns that are converted for good."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data import ConfigError, DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import convert, run
from dipole.data.sources.combine.converted import converted, parse_convert
from dipole.data.sources.combine.resampled import resampled
from dipole.data.sources.combine.trimmed import trimmed
from dipole.data.sources.registry import open_source
from dipole.data.sources.words import ConversionRequest
from dipole.data.transforms.quaternion_columns import quaternion_columns

sys.path.insert(0, str(Path(__file__).parent))
from array_source import ArraySource, waiting, whole

NAMES = ("x", "y", "z", "ee_qx", "ee_qy", "ee_qz", "ee_qw")


def test_columns_are_converted_with_their_names_and_units():
    pose = np.float32([[1, 2, 3, 0, 0, 0, 1], [4, 5, 6, 0, 0, 1, 0]])
    source = ArraySource({"action": pose}, action={"names": NAMES, "units": ("m",) * 3 + ("",) * 4})
    made = converted(source, [parse_convert("action:3-6=quaternion_to_6d")])
    assert whole(made, "action").tolist() == [
        [1, 2, 3, 1, 0, 0, 0, 1, 0],
        [4, 5, 6, -1, 0, 0, 0, -1, 0],
    ]
    schema = made.info.frames["action"]
    assert schema.shape == (9,)
    assert schema.names[2:5] == ("z", "ee_r11", "ee_r12")
    assert schema.units == ("m",) * 3 + ("",) * 6
    assert made.info.history == ("convert action:3+4+5+6=quaternion_to_6d",)


def test_options_stand_after_the_transform():
    word = "action:0,2=range_to_unit,low=0,high=2"
    found = parse_convert(word)
    assert found.columns == (0, 2)
    assert found.options == {"low": 0, "high": 2}
    source = ArraySource({"action": np.float32([[0, 7, 1]])})
    assert whole(converted(source, [found]), "action").tolist() == [[-1, 7, 0]]
    assert parse_convert("eef_quat=quaternion_to_6d,order=wxyz").columns is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("action", "KEY:COLUMNS=TRANSFORM"),
        ("action:=x", "KEY:COLUMNS=TRANSFORM"),
        ("action:3-=x", "counted from 0"),
        ("action:6-3=x", "runs backwards"),
        ("action=x,low", "no option NAME=VALUE"),
    ],
)
def test_words_of_conversion_that_mean_nothing_are_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        parse_convert(word)


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("actoin=degrees_to_radians", ConfigError, "did you mean 'action'"),
        ("action:0-3=quaternion_to_6d", ConfigError, "column 3 .* there are 3"),
        ("action=quaternion_to_6d", ConfigError, "takes 4 columns, and 3"),
        ("camera=degrees_to_radians", ConfigError, "are pictures"),
    ],
)
def test_a_conversion_of_what_is_not_there_is_refused(word, error, message):
    camera = np.zeros((1, 2, 2, 3), np.uint8)
    source = ArraySource({"action": np.float32([[0, 7, 1]]), "camera": camera})
    with pytest.raises(error, match=message):
        converted(source, [parse_convert(word)])


def test_a_rotation_that_is_none_is_named_with_its_episode():
    source = ArraySource({"action": np.zeros((5, 4), np.float32)})
    made = converted(source, [parse_convert("action=quaternion_to_6d")])
    with pytest.raises(DataError, match=r"episode 0, 'action', frames 0 to 4: .* no direction"):
        whole(made, "action")


def test_a_store_is_resampled_trimmed_and_converted_into_another(tmp_path):
    numbers = waiting()
    half = np.hstack([np.zeros((65, 2)), np.sin(numbers), np.cos(numbers)])
    with EpisodeWriter(tmp_path / "a", fps=10.0) as writer:
        writer.add_episode({"action": half, "state": numbers}, task="turn")
    source = trimmed(resampled(open_source(tmp_path / "a"), 20))
    made = converted(source, [parse_convert("action=quaternion_to_6d")])
    report = convert(made, tmp_path / "b")
    store = EpisodeStore.open(tmp_path / "b")
    assert store.fps == 20
    assert store["action"].shape == (store.n_frames, 6)
    assert store.tasks == ["turn"]
    assert "trimmed" in report.warnings[0]


@pytest.mark.parametrize(
    ("key", "names", "shape", "found"),
    [
        ("action", NAMES, (7,), [(3, 4, 5, 6)]),
        ("action", ("w", "x", "y", "z"), (4,), [(0, 1, 2, 3)]),
        ("p", ("a.qx", "a.qy", "a.qz", "a.qw", "b.qw", "b.qx", "b.qy", "b.qz"), (8,),
         [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ("pose", ("position.x", "position.y", "position.z", "orientation.x", "orientation.y",
                  "orientation.z", "orientation.w"), (7,), [(3, 4, 5, 6)]),
        ("robot0_eef_quat", (), (4,), [(0, 1, 2, 3)]),
        ("robot0_eef_quat_site", (), (4,), [(0, 1, 2, 3)]),
        ("action", (), (4,), []),
        ("quaternary", (), (4,), []),
        ("eef_quat", (), (3,), []),
        ("twist", ("vx", "vy", "vz", "wz"), (4,), []),
        ("camera", (), (4, 4, 3), []),
    ],
)  # fmt: skip
def test_quaternions_are_found_by_their_names(key, names, shape, found):
    assert quaternion_columns(key, names, shape) == found


def test_what_is_asked_in_words_is_done_in_order(tmp_path):
    with EpisodeWriter(tmp_path / "a", fps=10.0) as writer:
        numbers = waiting()
        degrees = 90 * np.hstack([numbers, numbers])
        writer.add_episode({"action": degrees, "state": numbers})
    request = ConversionRequest(
        tmp_path / "a", tmp_path / "b", resample=20.0, trim="idle,keep=0.1",
        convert=("action:1=degrees_to_radians",),
    )  # fmt: skip
    report = run(request)
    store = EpisodeStore.open(tmp_path / "b")
    assert store.fps == 20
    assert store["action"][:, 1] == pytest.approx(np.radians(store["action"][:, 0]), abs=1e-5)
    assert report.n_frames == store.n_frames < 90
    assert "trimmed" in report.warnings[0]

"""Sources at another rate, without idle time, with converted columns."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dipole.data import ConfigError, DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import convert, run
from dipole.data.sources.combine.converted import converted, parse_convert
from dipole.data.sources.combine.resampled import parse_resample, resampled
from dipole.data.sources.combine.trimmed import Trim, parse_trim, trimmed
from dipole.data.sources.combine.wrapped import WrappedEpisode, WrappedSource
from dipole.data.sources.registry import open_source
from dipole.data.sources.source import ArrayEpisode, EpisodeRef, SourceInfo
from dipole.data.sources.words import ConversionRequest
from dipole.data.store.schema import FrameSchema
from dipole.data.transforms.idle import idle_stretches
from dipole.data.transforms.quaternion_columns import quaternion_columns

spec = importlib.util.spec_from_file_location(
    "lerobot_corpus", Path(__file__).with_name("lerobot_corpus.py")
)
corpus = importlib.util.module_from_spec(spec)
spec.loader.exec_module(corpus)

SETTINGS = settings(max_examples=100, deadline=None, derandomize=True, database=None)


class ArraySource:
    """Episodes in memory."""

    def __init__(self, *episodes, fps=10.0, tasks=(), **meaning):
        self.arrays = [{k: np.asarray(v) for k, v in episode.items()} for episode in episodes]
        frames = {
            key: FrameSchema(
                array.shape[1:],
                array.dtype,
                "action" if key == "action" else "image" if array.ndim == 4 else "state",
                **meaning.get(key, {}),
            )
            for key, array in self.arrays[0].items()
        }
        self.info = SourceInfo(Path("memory"), "arrays", frames, fps)
        self.tasks = tasks

    def episodes(self):
        return [EpisodeRef(n, len(next(iter(a.values())))) for n, a in enumerate(self.arrays)]

    def open(self, ref):
        return ArrayEpisode(self.episodes()[ref.id], self.arrays[ref.id], self.tasks)

    def close(self):
        pass


def whole(source, key, episode=0):
    opened = source.open(source.episodes()[episode])
    return opened.read(key, 0, opened.n_frames)


def column(*numbers):
    return np.array(numbers, np.float32)[:, None]


# Another rate ------------------------------------------------------------------------------------


def test_fewer_frames_are_those_of_the_same_moments():
    frames = np.arange(11.0, dtype=np.float32)[:, None] ** 2
    half = resampled(ArraySource({"action": frames}, fps=50), 25)
    assert whole(half, "action").ravel().tolist() == [0, 4, 16, 36, 64, 100]
    assert half.info.fps == 25
    assert half.episodes()[0].n_frames == 6


def test_more_frames_lie_on_the_line_between():
    fine = resampled(ArraySource({"action": column(0, 1, 3, 2)}, fps=10), 20)
    assert whole(fine, "action").ravel().tolist() == [0, 0.5, 1, 2, 3, 2.5, 2]


def test_a_rate_that_does_not_divide_keeps_the_seconds():
    seconds = np.arange(31, dtype=np.float32)[:, None] / 30
    found = whole(resampled(ArraySource({"action": seconds}, fps=30), 50), "action").ravel()
    assert np.allclose(found, np.arange(51) / 50, atol=1e-6)


def test_angles_take_the_short_way_and_stay_where_they_are_written():
    turning = column(3.0, -3.0, -2.9)
    source = ArraySource({"action": turning}, action={"units": "rad"})
    found = whole(resampled(source, 20), "action").ravel()
    assert found[[0, 2, 3, 4]] == pytest.approx([3.0, -3.0, -2.95, -2.9])
    assert abs(found[1]) == pytest.approx(math.pi, abs=1e-6)
    degrees = ArraySource({"action": column(350.0, 10.0, 20.0)}, action={"units": "deg"})
    assert whole(resampled(degrees, 20), "action")[1] % 360 == pytest.approx(0.0, abs=1e-4)
    unknown = ArraySource({"action": column(350.0, 10.0, 20.0)})
    assert whole(resampled(unknown, 20), "action")[1] == pytest.approx(180.0)


def test_quaternions_go_along_the_arc_whatever_their_signs():
    turned = Rotation.from_rotvec([[0, 0, 0.0], [0, 0, 1.0], [0.5, 0, 1.0]])
    stored = np.float32(turned.as_quat() * [[1], [-1], [1]])
    names = ("qx", "qy", "qz", "qw")
    source = ArraySource({"action": stored, "eef_quat": stored}, action={"names": names})
    at = np.arange(0, 2.01, 0.25)
    right = Slerp([0, 1, 2], turned)(at)
    for key in ("action", "eef_quat"):
        found = whole(resampled(source, 40), key)
        assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-6)
        assert (Rotation.from_quat(found) * right.inv()).magnitude().max() < 1e-3


def test_pictures_whole_numbers_and_switches_are_those_of_the_nearest_frame():
    pictures = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    episode = {
        "camera": pictures,
        "count": np.array([[0], [5], [7], [9]]),
        "action": np.float32([[0, -1], [1, -1], [2, 1], [3, 1]]),
    }
    fine = resampled(ArraySource(episode, fps=10), 20)
    assert whole(fine, "camera")[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert whole(fine, "count").ravel().tolist() == [0, 0, 5, 5, 7, 7, 9]
    assert whole(fine, "action")[:, 1].tolist() == [-1, -1, -1, -1, 1, 1, 1]
    assert whole(fine, "action")[:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_words_of_tasks_begin_with_the_frame_they_were_nearest_to():
    source = ArraySource(
        {"action": np.zeros((10, 1), np.float32)}, tasks=((0, "reach"), (4, "grasp"), (5, "lift"))
    )
    half = resampled(source, 5)
    assert half.open(half.episodes()[0]).tasks == ((0, "reach"), (2, "grasp"), (3, "lift"))


@SETTINGS
@given(st.integers(1, 60), st.floats(1, 100), st.floats(1, 100), st.data())
def test_any_piece_of_any_rate_is_that_piece_of_the_whole(n, fps, other, data):
    numbers = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    source = resampled(ArraySource({"action": numbers}, fps=fps), other)
    episode = source.open(source.episodes()[0])
    assert episode.n_frames == source.episodes()[0].n_frames >= 1
    every = episode.read("action", 0, episode.n_frames)
    assert every[0] == numbers[0]
    assert (np.diff(every.ravel()) >= -1e-6).all()
    start = data.draw(st.integers(0, episode.n_frames - 1))
    stop = data.draw(st.integers(start + 1, episode.n_frames))
    assert np.array_equal(episode.read("action", start, stop), every[start:stop])


def test_a_rate_is_a_positive_number_and_the_datasets_own_is_known():
    source = ArraySource({"action": column(0, 1)})
    assert resampled(source, 10.0) is source
    assert parse_resample("12.5") == 12.5
    for word in ("0", "-1", "fast", "nan", "inf"):
        with pytest.raises(ConfigError, match="positive number"):
            parse_resample(word)
    with pytest.raises(DataError, match="frames per second are not recorded"):
        resampled(ArraySource({"action": column(0, 1)}, fps=None), 5)


# Idle time ----------------------------------------------------------------------------------------


def waiting():
    """1 s still, 2 s of motion with 1.5 s still in the middle, 2 s still; 10 frames a second."""
    path = np.concatenate(
        [
            np.zeros(10),
            np.linspace(0.1, 1, 10),
            np.ones(15),
            np.linspace(1.1, 2, 10),
            2 * np.ones(20),
        ]
    )
    noise = 0.002 * np.random.default_rng(0).standard_normal(len(path))
    return np.float32(path + noise)[:, None]


def test_idle_time_at_the_ends_goes_but_for_what_is_kept():
    numbers = waiting()
    source = ArraySource({"action": numbers, "state": numbers})
    short = trimmed(source)
    assert short.episodes()[0].n_frames == 38
    assert np.array_equal(whole(short, "action"), numbers[8:46])
    assert short.info.warnings == (
        "trimmed 27 of 65 frames, idle at the ends of episodes, from 1 of 1 episodes",
    )


def test_idle_time_everywhere_goes():
    source = ArraySource({"action": waiting()})
    short = trimmed(source, Trim(everywhere=True, keep=0.3))
    found = whole(short, "action").ravel()
    assert len(found) == 65 - 7 - 13 - 18
    assert np.abs(np.diff(found)).max() < 0.13
    assert "idle, from 1" in short.info.warnings[0]


def test_what_moves_in_any_key_is_no_idle_time():
    still = np.zeros((30, 1), np.float32)
    source = ArraySource(
        {"action": np.linspace(0, 1, 30, dtype=np.float32)[:, None], "state": still}
    )
    assert trimmed(source).episodes()[0].n_frames == 30
    clock = {"action": still + 1, "timestamp": np.arange(30, dtype=np.float32)[:, None]}
    assert trimmed(ArraySource(clock)).episodes()[0].n_frames == 30  # nothing ever moves


def test_words_that_hold_where_an_episode_now_begins_stay():
    source = ArraySource(
        {"action": waiting()}, tasks=((0, "wait"), (3, "reach"), (20, "rest"), (60, "end"))
    )
    short = trimmed(source)
    assert short.open(short.episodes()[0]).tasks == ((0, "reach"), (12, "rest"))


@SETTINGS
@given(st.lists(st.sampled_from([0.0, 0.005, 1.0, 2.0]), min_size=1, max_size=40),
       st.integers(1, 6))  # fmt: skip
def test_idle_stretches_are_idle_as_long_as_can_be_and_none_is_missed(values, least):
    numbers, tolerance = np.array(values)[:, None], np.array([0.01])
    found = idle_stretches(numbers, tolerance, least)
    inside = np.zeros(len(values), bool)
    for start, stop in found:
        assert stop - start >= least
        assert np.abs(numbers[start:stop] - numbers[start]).max() <= 0.01
        inside[start:stop] = True
    for start in range(len(values) - least + 1):
        window = numbers[start : start + least]
        if np.abs(window - window[0]).max() <= 0.01:
            assert inside[start : start + least].any()


@pytest.mark.parametrize(
    ("word", "trim"),
    [
        ("idle", Trim()),
        ("idle:all", Trim(everywhere=True)),
        ("idle,keep=0.5", Trim(keep=0.5)),
        ("idle:all,keep=0,least=2,tolerance=0.05", Trim(True, 0.0, 2.0, 0.05)),
    ],
)
def test_the_words_of_trimming(word, trim):
    assert parse_trim(word) == trim


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("ends", "idle, or idle:all"),
        ("idle,keep", "no NAME=NUMBER"),
        ("idle,kept=1", "no 'kept'"),
        ("idle,tolerance=2", "between 0 and 1"),
        ("idle,keep=1", "less than least"),
    ],
)
def test_words_of_trimming_that_mean_nothing_are_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        parse_trim(word)


# Converted for good -------------------------------------------------------------------------------

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


# Video --------------------------------------------------------------------------------------------


@pytest.fixture
def filmed(tmp_path):
    """LeRobot v3.0 at 10 frames a second: two episodes in one video."""
    corpus.write_v30(tmp_path / "filmed", [20, 15], camera="video")
    return open_source(tmp_path / "filmed")


def brightness(store):
    return np.round(store[corpus.CAMERA][:].mean((1, 2, 3)) / 4).astype(int).tolist()


def test_video_at_another_rate_is_decoded_to_the_nearest_frames(filmed, tmp_path):
    convert(resampled(filmed, 5), tmp_path / "b")
    store = EpisodeStore.open(tmp_path / "b")
    assert store.fps == 5
    assert brightness(store) == [*range(0, 20, 2), *range(20, 35, 2)]
    assert store["action"][:, 0].tolist() == [*range(0, 20, 2), *range(20, 35, 2)]


class Still(WrappedSource):
    """The same with an action that stands still for the first 6 frames."""

    def open(self, ref):
        return StillEpisode(super().open(ref))


class StillEpisode(WrappedEpisode):
    def read(self, key, start, stop):
        if "image" in key:
            return super().read(key, start, stop)
        frames = super().read(key, 0, self.n_frames)
        frames = np.concatenate([frames[:1].repeat(6, 0), frames[6:]])
        return frames[start:stop]


def test_video_that_is_trimmed_at_the_ends_stays_video(filmed, tmp_path):
    convert(trimmed(Still(filmed, filmed.info), Trim(keep=0.2)), tmp_path / "b")
    store = EpisodeStore.open(tmp_path / "b")
    assert store.schema(corpus.CAMERA)["storage"] == "video"
    assert store.n_frames == 16 + 11
    assert brightness(store) == [*range(4, 20), *range(24, 35)]


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

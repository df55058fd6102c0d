"""Cameras of LeRobot datasets that are video: which frames of a file are an episode's."""

import importlib.util
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from dipole.data import DataError, EpisodeStore
from dipole.data.convert import convert
from dipole.data.inspection.validate import validate
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source
from dipole.data.store.video import PacketTable

_spec = importlib.util.spec_from_file_location(
    "lerobot_corpus", Path(__file__).with_name("lerobot_corpus.py")
)
corpus = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpus)

LENGTHS = [7, 5, 9]
CAMERA = corpus.CAMERA
EXACT = {"codec": "h264", "crf": "1"}


def converted(source, path, images="keep", **selection):
    source = open_source(source) if isinstance(source, Path) else source
    convert(selected(source, **selection), path, images)
    assert validate(path).ok
    return EpisodeStore.open(path)


def seen(source, key, number):
    """The brightness of an episode's frames, decoded by the source itself, over 4."""
    episode = source.open(source.episodes()[number])
    frames = episode.read(key, 0, episode.n_frames)
    return np.round(corpus.levels(frames) / 4).astype(int).tolist()


# At another rate than the rows.


@pytest.mark.parametrize("rate", [20, 30, 50])
def test_of_a_faster_video_the_frames_nearest_in_time_are_taken(tmp_path, rate):
    theirs = corpus.write_v30_files(tmp_path / "theirs", [7, 5], cameras=["cam"], video_fps=rate)
    source = open_source(theirs)
    assert f"its video runs at {rate} frames a second, the rows at 10" in source.info.warnings[0]
    assert seen(source, "cam", 0) == [0, 1, 2, 3, 4, 5, 6]
    assert seen(source, "cam", 1) == [7, 8, 9, 10, 11]
    store = converted(source, tmp_path / "ours.zarr")
    assert store.schema("cam").get("storage") is None
    assert np.abs(corpus.levels(store["cam"][:]) - 4 * np.arange(12)).max() <= 2


def test_a_slower_video_is_refused_with_what_to_do(tmp_path):
    theirs = corpus.write_v30_files(tmp_path / "theirs", [8, 6], cameras=["cam"], video_fps=5)
    with pytest.raises(
        DataError, match=r"'cam', episode 0.*5 frames a second, the rows at 10.*Enc"
    ):
        converted(theirs, tmp_path / "ours.zarr")
    assert not (tmp_path / "ours.zarr").exists()


def test_as_many_frames_as_rows_at_another_rate_are_refused(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", [7])
    frames = [corpus.smooth_picture(n) for n in range(7)]
    add_camera(theirs, frames, fps=20)
    with pytest.raises(DataError, match=r"frame [4-6]: the video runs at 20 .* the rows at 10"):
        open_source(theirs).open(open_source(theirs).episodes()[0]).read(CAMERA, 0, 7)


def add_camera(theirs, frames, fps, episode=0, shape=None, names=None):
    """A video for one episode of a dataset of version 2.1."""
    feature = {"dtype": "video", "shape": shape or list(frames[0].shape), "names": names}
    corpus.edit_info(theirs, lambda info: info["features"].update({CAMERA: feature}))
    path = theirs / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"
    path.unlink(missing_ok=True)
    corpus.encode_video(path, frames, fps=fps)


def test_one_video_at_another_rate_than_the_first_is_named(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    frames = [corpus.smooth_picture(7 + n / 2) for n in range(10)]
    add_camera(theirs, frames, fps=20, episode=1)
    with pytest.raises(DataError, match=r"episode 1, episode_000001.mp4: the video runs at 20"):
        converted(theirs, tmp_path / "ours.zarr")
    source = open_source(theirs)
    assert seen(source, CAMERA, 1) == [7, 8, 9, 10, 11]  # decoded, it is clear


def test_frames_that_only_the_rows_lack_are_passed_over_by_time(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", [7])
    stamps = pa.array(np.float32([0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9]))
    corpus.replace_column(theirs / "data/chunk-000/episode_000000.parquet", "timestamp", stamps)
    add_camera(theirs, [corpus.smooth_picture(n) for n in range(10)], fps=10)
    source = open_source(theirs)
    assert seen(source, CAMERA, 0) == [0, 1, 2, 6, 7, 8, 9]
    with pytest.raises(DataError, match=r"time stamps of the rows jump, .* --images zstd"):
        source.open(source.episodes()[0]).clip(CAMERA)


def test_frames_that_rows_and_video_lack_are_taken_one_after_another(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", [7])
    stamps = pa.array(np.float32([0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9]))
    corpus.replace_column(theirs / "data/chunk-000/episode_000000.parquet", "timestamp", stamps)
    add_camera(theirs, [corpus.smooth_picture(n) for n in range(7)], fps=10)
    source = open_source(theirs)
    assert seen(source, CAMERA, 0) == [0, 1, 2, 3, 4, 5, 6]
    assert "timestamp jumps by 0.4 s before frame 3" in source.info.warnings[0]


def test_a_rate_a_little_off_is_the_same_where_the_count_fits(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    corpus.edit_info(theirs, lambda info: info.update(fps=9.97))
    source = open_source(theirs)
    assert source.info.warnings == ()
    assert source.open(source.episodes()[2]).clip(CAMERA).n_frames == 9


# Where an episode begins.


@pytest.mark.parametrize("drift", [0.0, 0.1, 0.3, 0.6, -0.6, 1.0, -1.0])
def test_lengths_say_where_episodes_begin_however_their_seconds_drift(tmp_path, drift):
    lengths = [5, 6, 4, 5]
    theirs = corpus.write_v30_files(tmp_path / "theirs", lengths, cameras=["cam"], drift=drift)
    some = selected(open_source(theirs), episodes=[1, 2])
    store = converted(some, tmp_path / "ours.zarr")
    assert np.abs(corpus.levels(store["cam"][:]) - 4 * np.arange(5, 15)).max() <= 2
    said = [warning for warning in some.info.warnings if "from_timestamp" in warning]
    assert len(said) == {0.0: 0, 0.1: 0, 0.3: 1, 0.6: 2, 1.0: 2}[abs(drift)]
    source = open_source(theirs)
    assert seen(source, "cam", 3) == [15, 16, 17, 18, 19]


def test_a_drift_is_named_with_both_sides(tmp_path):
    theirs = corpus.write_v30_files(tmp_path / "theirs", [5, 6], cameras=["cam"], drift=0.6)
    source = open_source(theirs)
    seen(source, "cam", 1)
    assert (
        "says frame 5.60 of the file, the lengths of the episodes before say 5"
        in (source.info.warnings[0])
    )


def test_seconds_say_where_episodes_begin_if_they_are_exact_and_lengths_do_not_fit(tmp_path):
    theirs = corpus.write_v30_files(
        tmp_path / "theirs", [5, 6, 4], cameras=["cam"], extra_frames=2, drift=0.1
    )
    source = open_source(theirs)
    assert [seen(source, "cam", n)[0] for n in range(3)] == [0, 5, 11]


@pytest.mark.parametrize(
    ("drift", "message"),
    [(0.4, "0.4 frames beside the nearest"), (-1.0, "the episode before still has 1 frames")],
)
def test_nothing_is_guessed_where_neither_fits(tmp_path, drift, message):
    theirs = corpus.write_v30_files(
        tmp_path / "theirs", [5, 6, 4], cameras=["cam"], extra_frames=2, drift=drift
    )
    source = open_source(theirs)
    assert seen(source, "cam", 0) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match=rf"'cam', episode 1, file-000.mp4, frame 0: .*{message}"):
        seen(source, "cam", 1)


def test_frames_that_no_episode_has_are_passed_over(tmp_path):
    """As after episodes were deleted: one frame is left between the first and the second."""
    theirs = corpus.write_v30_files(
        tmp_path / "theirs", [5, 6], cameras=["cam"], extra_frames=1, drift=1.0
    )
    assert seen(open_source(theirs), "cam", 1) == [6, 7, 8, 9, 10, 11]


def test_a_video_with_more_frames_than_rows_is_said(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", [7])
    add_camera(theirs, [corpus.smooth_picture(n) for n in range(9)], fps=10)
    source = open_source(theirs)
    assert seen(source, CAMERA, 0) == [0, 1, 2, 3, 4, 5, 6]
    assert (
        "episode 0, episode_000000.mp4: the video has 2 frames more than rows"
        in (source.info.warnings[0])
    )


@pytest.mark.parametrize("images", ["keep", "zstd"])
def test_several_cameras_in_files_of_many_episodes(tmp_path, images):
    lengths, cameras = [3, 5, 4, 6, 2], ["left", "right"]
    theirs = corpus.write_v30_files(tmp_path / "theirs", lengths, files=2, cameras=cameras)
    store = converted(theirs, tmp_path / "ours.zarr", images=images)
    assert np.abs(corpus.levels(store["left"][:]) - 4 * np.arange(20)).max() <= 2
    assert np.abs(corpus.levels(store["right"][:]) - 4 * np.arange(10, 30)).max() <= 2


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 15), min_size=1, max_size=4),
    key_frames=st.integers(1, 20),
    b_frames=st.integers(0, 3),
    data=st.data(),
)
def test_any_frames_are_decoded_as_they_are_shown(lengths, key_frames, b_frames, data):
    with tempfile.TemporaryDirectory() as folder:
        options = {"g": str(key_frames), "bf": str(b_frames)}
        theirs = corpus.write_v30(Path(folder) / "theirs", lengths, "video", **options)
        expected = corpus.decoded(next((theirs / "videos").rglob("*.mp4")))
        source = open_source(theirs)
        number = data.draw(st.integers(0, len(lengths) - 1))
        start = data.draw(st.integers(0, lengths[number] - 1))
        episode = source.open(source.episodes()[number])
        first = sum(lengths[:number]) + start
        read = episode.read(CAMERA, start, lengths[number])
        assert np.array_equal(read, expected[first : first + len(read)])


# Whole videos.


@pytest.mark.parametrize("codec", ["h264", "libsvtav1", "hevc", "mpeg4"])
def test_video_of_any_codec_is_cut_where_episodes_begin(tmp_path, codec):
    source = corpus.write_v30(tmp_path / "theirs", LENGTHS, "video", codec=codec)
    expected = corpus.decoded(next((source / "videos").rglob("*.mp4")))
    store = converted(source, tmp_path / "ours.zarr", episodes=(1, 2))
    assert np.array_equal(store[CAMERA][:], expected[7:])


@settings(max_examples=8, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 15), min_size=1, max_size=4),
    key_frames=st.integers(1, 20),
    b_frames=st.integers(0, 3),
    data=st.data(),
)
def test_any_episodes_of_any_video_come_out_as_they_are(lengths, key_frames, b_frames, data):
    chosen = data.draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1))
    with tempfile.TemporaryDirectory() as folder:
        options = {"g": str(key_frames), "bf": str(b_frames)}
        source = corpus.write_v30(Path(folder) / "theirs", lengths, "video", **options)
        expected = corpus.decoded(next((source / "videos").rglob("*.mp4")))
        store = converted(source, Path(folder) / "ours.zarr", episodes=tuple(chosen))
        ends = np.cumsum(lengths)
        frames = [n for e in sorted(chosen) for n in range(ends[e] - lengths[e], ends[e])]
        assert np.array_equal(store[CAMERA][:], expected[frames])
        backwards = np.arange(len(frames))[::-1]
        assert np.array_equal(store[CAMERA].take(backwards), expected[frames[::-1]])


def test_a_video_with_too_few_frames_is_an_error_that_names_episode_and_frame(tmp_path):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = source / f"videos/chunk-000/{CAMERA}/episode_000002.mp4"
    path.unlink()
    corpus.encode_video(path, [corpus.smooth_picture(n) for n in range(6)])
    with pytest.raises(DataError, match=r"episode 2, episode_000002.mp4, frame 6 of 9"):
        converted(source, tmp_path / "ours.zarr")


@pytest.mark.parametrize("images", ["keep", "zstd"])
def test_a_video_cut_short_behind_its_index_is_an_error_that_names_the_frame(tmp_path, images):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = source / f"videos/chunk-000/{CAMERA}/episode_000002.mp4"
    frames = [corpus.picture(n) for n in range(9)]
    path.unlink()
    corpus.encode_video(path, frames, bf="0", muxer={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"000002.mp4, frame [1-6] of 9: the video ends there"):
        converted(source, tmp_path / "ours.zarr", images=images)


@pytest.mark.parametrize("images", ["keep", "zstd"])
def test_a_truncated_video_is_an_error_that_names_the_episode(tmp_path, images):
    source = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = source / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"episode 1, episode_000001.mp4, .*cut short"):
        converted(source, tmp_path / "ours.zarr", images=images)
    assert not (tmp_path / "ours.zarr").exists()


@settings(max_examples=8, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=6),
    drift=st.floats(-0.9, 0.9),
    key_frames=st.integers(1, 12),
    row_groups=st.booleans(),
)
def test_any_lengths_files_and_drifts_give_each_episode_its_own(
    places, drift, key_frames, row_groups
):
    lengths, file_of = [length for length, _ in places], [file for _, file in places]
    with tempfile.TemporaryDirectory() as folder:
        theirs = corpus.write_v30_files(
            Path(folder) / "theirs",
            lengths,
            cameras=["cam"],
            file_of=file_of,
            drift=drift,
            row_groups=row_groups,
            key_frames=key_frames,
        )
        source = open_source(theirs)
        ends = np.cumsum(lengths)
        for number, (length, end) in enumerate(zip(lengths, ends, strict=True)):
            assert seen(source, "cam", number) == list(range(end - length, end))
            episode = source.open(source.episodes()[number])
            assert episode.read("action", 0, length)[:, 0].tolist() == list(
                range(end - length, end)
            )


# Their pictures.


def test_pictures_of_another_size_than_is_said_are_taken_as_they_are(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    corpus.edit_info(theirs, lambda info: info["features"][CAMERA].update(shape=[24, 16, 3]))
    source = open_source(theirs)
    assert source.info.frames[CAMERA].shape == (16, 24, 3)
    assert (
        "says shape [24, 16, 3], and its video has pictures of [16, 24, 3]"
        in (source.info.warnings[0])
    )


@pytest.mark.parametrize("names", [["channels", "height", "width"], None])
def test_pictures_that_are_declared_channels_first(tmp_path, names):
    theirs = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    corpus.edit_info(
        theirs, lambda info: info["features"][CAMERA].update(shape=[3, 16, 24], names=names)
    )
    source = open_source(theirs)
    assert source.info.warnings == ()
    assert converted(source, tmp_path / "ours.zarr")[CAMERA].shape == (21, 16, 24, 3)


def test_one_video_of_another_size_is_named(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = theirs / f"videos/chunk-000/{CAMERA}/episode_000002.mp4"
    path.unlink()
    corpus.encode_video(path, [np.zeros((32, 24, 3), np.uint8)] * 9)
    with pytest.raises(DataError, match=r"episode 2, episode_000002.mp4, .*\[32, 24\], \[16, 24\]"):
        converted(theirs, tmp_path / "ours.zarr")


def test_a_video_that_is_a_link_out_of_the_dataset_is_refused(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    path = theirs / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    path.rename(tmp_path / "outside.mp4")
    path.symlink_to(tmp_path / "outside.mp4")
    with pytest.raises(DataError, match="lies outside the dataset"):
        converted(theirs, tmp_path / "ours.zarr")


def test_videos_that_were_not_downloaded_are_said_to_be_so(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", LENGTHS, "video")
    snapshot = corpus.as_hub_cache(theirs, tmp_path / "hub")
    video = snapshot / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    video.resolve().unlink()
    source = open_source(snapshot)
    assert source.info.absent == {CAMERA: [1]}
    assert (
        "episode_000001.mp4 is a link to a file that is not there: it was not downloaded"
        in (source.info.warnings[0])
    )


# Cost.


def test_the_packets_of_each_file_are_read_once(tmp_path, monkeypatch):
    cameras = ["left", "right"]
    theirs = corpus.write_v30_files(tmp_path / "theirs", [3] * 12, files=4, cameras=cameras)
    made = []

    class Counted(PacketTable):
        def __init__(self, *arguments):
            made.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr("dipole.data.store.video.packets.PacketTable", Counted)
    converted(theirs, tmp_path / "ours.zarr")
    assert [len(table) for table in made].count(9) == 8  # pieces that were cut out are shorter

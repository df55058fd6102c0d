"""Clips of videos beside rows: in step with them, or refused."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dipole.data import Clip, DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import convert
from dipole.data.sources.registry import open_source

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-format.md"
SIZE = (48, 64, 3)


def film(path, times):
    """A picture at each of these times, in thousandths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"bf": "0", "g": "5"})
        stream.height, stream.width, stream.pix_fmt = *SIZE[:2], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full(SIZE, 2 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def even(rate, n=60):
    return np.round(1000 * np.arange(n) / rate)


def write(path, clip, fps=30):
    with EpisodeWriter(path, fps=fps) as writer:
        writer.add_episode({"top": clip, "action": np.arange(float(len(clip)))[:, None]})
    return EpisodeStore.open(path)


@pytest.mark.parametrize("rate", [30, 29.97, 30.5])
def test_a_video_at_the_rate_of_the_rows_is_taken(tmp_path, rate):
    clip = Clip(film(tmp_path / "a.mp4", even(rate)), 5, 40, SIZE)
    pictures = write(tmp_path / "a.zarr", clip)["top"][:]
    assert np.abs(pictures[:, 0, 0, 0].astype(int) - 2 * np.arange(5, 45)).max() <= 3


@pytest.mark.parametrize(("rate", "said"), [(60, "60"), (15, "15"), (31.25, "31.25")])
def test_a_video_at_another_rate_is_refused_with_both_rates(tmp_path, rate, said):
    clip = Clip(film(tmp_path / "a.mp4", even(rate)), 0, 60, SIZE)
    message = (
        rf"a\.mp4: 'top' of episode 0: its pictures are {said}[.\d]* a second, the rows 30\. .*30"
    )
    with pytest.raises(DataError, match=message):
        write(tmp_path / "a.zarr", clip)
    assert not (tmp_path / "a.zarr").exists()


def test_a_video_of_a_varying_rate_is_refused_with_the_frame(tmp_path):
    times = even(30)
    times[20:] += 33  # a picture was dropped
    clip = Clip(film(tmp_path / "a.mp4", times), 0, 60, SIZE)
    with pytest.raises(DataError, match=r"lie unevenly in time, the one of frame (19|20) 0\.6"):
        write(tmp_path / "a.zarr", clip)


def test_only_the_clip_itself_must_be_in_step(tmp_path):
    times = np.concatenate([even(30, 30), 5000 + even(30, 30)])
    file = film(tmp_path / "a.mp4", times)
    assert len(write(tmp_path / "a.zarr", Clip(file, 30, 30, SIZE))["top"]) == 30
    with pytest.raises(DataError, match="its pictures are"):
        write(tmp_path / "b.zarr", Clip(file, 20, 20, SIZE))


def test_frames_may_belong_to_rows_by_number(tmp_path):
    file = film(tmp_path / "a.mp4", even(60))
    store = write(tmp_path / "a.zarr", Clip(file, 0, 60, SIZE, by_number=True))
    assert np.abs(store["top"][:][:, 0, 0, 0].astype(int) - 2 * np.arange(60)).max() <= 3
    convert(open_source(tmp_path / "a.zarr"), tmp_path / "b.zarr")  # even, once it is ours
    assert np.array_equal(EpisodeStore.open(tmp_path / "b.zarr")["top"][:], store["top"][:])


def test_one_picture_has_no_rate(tmp_path):
    clip = Clip(film(tmp_path / "a.mp4", even(9, 1)), 0, 1, SIZE)
    assert len(write(tmp_path / "a.zarr", clip)["top"]) == 1


def test_two_pictures_of_a_coarse_clock_are_in_step(tmp_path):
    clip = Clip(film(tmp_path / "a.mp4", [0, 17]), 0, 2, SIZE)
    assert len(write(tmp_path / "a.zarr", clip, fps=60)["top"]) == 2


def test_the_example_of_the_format_page_writes_a_clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "run_7.mp4", even(30))
    section = PAGE.read_text().split("### A camera that is a video already")[1]
    lines = re.findall(r"^    (.*)$", section.split("###")[0], re.MULTILINE)
    with EpisodeWriter("a.zarr", fps=30) as writer:
        names = {"Path": Path, "writer": writer, "joints": np.zeros((50, 7))}
        exec("\n".join(lines).replace("480, 640", "48, 64"), {**names, "target": names["joints"]})
    assert EpisodeStore.open("a.zarr").schema("top")["storage"] == "video"

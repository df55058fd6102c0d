"""Depth cameras of LeRobot datasets: numbers with units, in and out, and never half taken."""

import importlib.util
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dipole.data import DataError
from dipole.data.export.lerobot import export_lerobot
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source
from dipole.data.sources.source import ArrayEpisode, EpisodeRef, SourceInfo
from dipole.data.store.schema import FrameSchema

_spec = importlib.util.spec_from_file_location(
    "lerobot_corpus", Path(__file__).with_name("lerobot_corpus.py")
)
corpus = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(corpus)

KEY = "observation.images.depth"
SHAPE = (16, 24, 1)


def file_of(pixels, image_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


def metres(frame):
    return (corpus.depth_picture(frame)[..., 0] / 1000).astype(np.float32)


def read_all(source, key=KEY):
    episodes = map(source.open, source.episodes())
    return np.concatenate([episode.read(key, 0, episode.n_frames) for episode in episodes])


@pytest.fixture
def theirs(tmp_path):
    return corpus.write_v21(tmp_path / "theirs", [3, 4])


def test_pictures_of_16_bits_are_depth_in_millimetres(theirs):
    corpus.add_pictures(theirs, KEY, corpus.depth_file, SHAPE, is_depth_map=True)
    source = open_source(theirs)
    schema = source.info.frames[KEY]
    assert (schema.kind, schema.shape, schema.dtype, schema.units) == (
        "depth",
        SHAPE,
        np.uint16,
        "mm",
    )
    assert np.array_equal(read_all(source), np.stack(list(map(corpus.depth_picture, range(7)))))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_pictures_of_16_bits_are_depth_also_where_nobody_says_so(theirs, image_format):
    corpus.add_pictures(
        theirs, KEY, lambda n: file_of(corpus.depth_picture(n)[..., 0], image_format), SHAPE
    )
    schema = open_source(theirs).info.frames[KEY]
    assert (schema.kind, schema.dtype, schema.units) == ("depth", np.uint16, "")
    assert read_all(open_source(theirs))[6].max() == corpus.depth_picture(6).max()


@pytest.mark.parametrize("said", [{}, {"depth_unit": "m"}])
def test_pictures_of_float32_are_depth_in_metres(theirs, said):
    corpus.add_pictures(
        theirs, KEY, lambda n: file_of(metres(n), "TIFF"), SHAPE, is_depth_map=True, **said
    )
    source = open_source(theirs)
    assert (source.info.frames[KEY].dtype, source.info.frames[KEY].units) == (np.float32, "m")
    assert np.array_equal(read_all(source)[..., 0], np.stack(list(map(metres, range(7)))))


def test_a_grey_camera_of_8_bits_is_no_depth(theirs):
    grey = corpus.picture(1)[..., 0]
    corpus.add_pictures(theirs, "observation.images.grey", lambda n: file_of(grey), SHAPE)
    source = open_source(theirs)
    assert source.info.frames["observation.images.grey"].kind == "image"
    assert np.array_equal(read_all(source, "observation.images.grey")[3][..., 0], grey)


def test_a_picture_that_is_no_depth_is_named_with_its_frame(theirs):
    files = {5: file_of(corpus.picture(5)[..., 0])}
    corpus.add_pictures(theirs, KEY, lambda n: files.get(n) or corpus.depth_file(n), SHAPE)
    with pytest.raises(DataError, match=f"'{KEY}', episode 1, frame 2: .*mode L, depth of uint16"):
        read_all(open_source(theirs))


@pytest.mark.parametrize("word", ["is_depth_map", "video.is_depth_map"])
def test_depth_as_video_is_left_out_from_the_start_with_what_to_do(tmp_path, word):
    theirs = corpus.write_v21(tmp_path / "theirs", [3, 4], "video")
    corpus.edit_info(
        theirs,
        lambda info: info["features"][corpus.CAMERA].update(shape=SHAPE, info={word: True}),
    )
    source = open_source(theirs)
    assert sorted(source.info.frames) == ["action", "observation.state"]
    assert "Record depth as pictures" in source.info.left_out[corpus.CAMERA]
    with pytest.raises(DataError, match="cannot be taken: depth as video is not read"):
        selected(source, keys=["action", corpus.CAMERA])


def test_depth_as_video_is_recognised_by_the_file_where_nobody_says_so(tmp_path):
    theirs = corpus.write_v21(tmp_path / "theirs", [3, 4], "video")
    for path in (theirs / "videos").rglob("*.mp4"):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libx265", rate=10, options={"x265-params": "log-level=0"}
            )
            stream.height, stream.width, stream.pix_fmt = 64, 64, "gray12le"
            for _ in range(4):
                pixels = np.zeros((64, 64), np.uint16)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray12le")))
            container.mux(stream.encode(None))
    assert "gray12le" in open_source(theirs).info.left_out[corpus.CAMERA]


class Depth:
    """A source of two episodes with depth."""

    def __init__(self, dtype, units, shape=SHAPE):
        schema = FrameSchema(shape, np.dtype(dtype), "depth", units)
        action = FrameSchema((2,), np.dtype(np.float32), "action")
        self.info = SourceInfo(Path("depth"), "test", {"action": action, "head": schema}, fps=10)
        make = corpus.depth_picture if dtype == np.uint16 else metres
        self.frames = np.stack([make(n).reshape(shape) for n in range(7)])

    def episodes(self):
        return [EpisodeRef(0, 3), EpisodeRef(1, 4)]

    def open(self, ref):
        here = slice(0, 3) if ref.id == 0 else slice(3, 7)
        action = np.zeros((7, 2), np.float32)
        return ArrayEpisode(ref, {"action": action[here], "head": self.frames[here]})

    def close(self):
        pass


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:2]])
@pytest.mark.parametrize(
    ("dtype", "units", "form"), [(np.uint16, "mm", b"\x89PNG"), (np.float32, "m", b"II*\0")]
)
def test_depth_goes_out_and_comes_back_the_same(tmp_path, dtype, units, form, shape):
    ours = Depth(dtype, units, shape)
    export_lerobot(ours, tmp_path / "theirs")
    back = open_source(tmp_path / "theirs")
    schema = back.info.frames["observation.images.head"]
    assert (schema.kind, schema.shape, schema.dtype, schema.units) == ("depth", SHAPE, dtype, units)
    assert np.array_equal(read_all(back, "observation.images.head"), ours.frames.reshape(7, *SHAPE))
    file = back.open(back.episodes()[0]).file.read("observation.images.head", np.arange(1))
    assert file[0].as_py()["bytes"].startswith(form)


def test_statistics_of_depth_are_in_its_units(tmp_path):
    ours = Depth(np.uint16, "mm")
    export_lerobot(ours, tmp_path / "theirs")
    said = json.loads((tmp_path / "theirs/meta/stats.json").read_text())["observation.images.head"]
    assert said["max"] == [[[float(ours.frames.max())]]]
    assert said["mean"] == [[[pytest.approx(ours.frames.mean())]]]
    assert said["count"] == [7]

"""Frames of a video by their number: in any order, from any codec, within bounds."""

import io
import struct
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipole.data import Clip, DataError, EpisodeStore
from dipole.data.recording.episode_writer import EpisodeWriter
from dipole.data.store import video_array
from dipole.data.store.video import PacketTable, VideoError, VideoReader, cut, decoder, mp4_header
from dipole.data.store.video.colour import RgbConverter
from dipole.data.store.video.container import open_container
from dipole.data.store.video.mp4_header import read_header

N_FRAMES = 23
CODECS = [
    ("libx264", {"g": "2"}),
    ("libx264", {"g": "7", "bf": "3", "x264-params": "b-pyramid=normal:open-gop=1"}),
    ("libx264", {"g": "250", "bf": "0"}),
    ("libx265", {"g": "2", "x265-params": "log-level=none"}),
    ("libx265", {"g": "8", "x265-params": "log-level=none:bframes=3:open-gop=1"}),
    ("libsvtav1", {"g": "2", "crf": "30", "preset": "12"}),
    ("libsvtav1", {"g": "11", "crf": "30", "preset": "12"}),
    ("mpeg4", {"g": "6", "bf": "2"}),
]


def frames_of(n, height=64, width=64, seed=0):
    """Moving blocks: every frame differs, and predicts well from its neighbours."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    large = np.kron(base, np.ones((8, 8, 1), np.uint8))[:height, :width]
    return [np.roll(large, 3 * k, axis=1) for k in range(n)]


def encode(frames, codec="libx264", **options):
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", options
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_in_sequence(data):
    """All frames as RGB, decoded one after the other by the library alone."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@cache
def cut_of(which, folder):
    """The whole of a video as a cut, and its frames."""
    codec, options = CODECS[which]
    data = encode(frames_of(N_FRAMES), codec, **options)
    source, target = Path(folder) / f"{which}.mp4", Path(folder) / f"{which}_cut.mp4"
    source.write_bytes(data)
    cut(Clip(source, 0, N_FRAMES, (64, 64, 3)), target, 10, PacketTable.of(source))
    return target.read_bytes(), decode_in_sequence(data)


def write_store(path, episodes):
    """episodes: videos as bytes; returns the store."""
    with EpisodeWriter(path, fps=10) as writer:
        for number, data in enumerate(episodes):
            file = path.parent / f"source_{number}.mp4"
            file.write_bytes(data)
            n = len(decode_in_sequence(data))
            clip = Clip(file, 0, n, (64, 64, 3))
            writer.add_episode({"top": clip, "action": np.zeros((n, 2))})
    return EpisodeStore.open(path)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cuts"))


@settings(max_examples=60, deadline=None)
@given(
    which=st.integers(0, len(CODECS) - 1),
    reads=st.lists(
        st.lists(st.integers(0, N_FRAMES - 1), min_size=1, max_size=6, unique=True), max_size=6
    ),
)
def test_frames_in_any_order_are_those_of_decoding_in_sequence(cuts, which, reads):
    data, expected = cut_of(which, cuts)
    reader = VideoReader(io.BytesIO(data))
    assert reader.n_frames == N_FRAMES
    for wanted in reads:
        numbers = sorted(wanted)
        found = np.stack(list(reader.frames(numbers)))
        assert np.array_equal(found, expected[numbers])
    reader.close()


@settings(max_examples=30, deadline=None)
@given(
    kept=st.sampled_from([0, 3000, 10**9]),
    takes=st.lists(st.lists(st.integers(0, 4 * N_FRAMES - 1), max_size=8), max_size=5),
)
def test_a_store_of_different_videos_gives_each_frame_whatever_is_kept(cuts, kept, takes):
    path = Path(cuts) / "several.zarr"
    episodes = [cut_of(which, cuts) for which in (5, 1, 4, 5)]
    if not path.exists():
        write_store(path, [data for data, _ in episodes])
    expected = np.concatenate([frames for _, frames in episodes])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_array, "INDEX_BYTES", kept)
        patch.setattr(decoder, "MAX_DECODERS", 1 if kept < 10**9 else 4)
        frames = EpisodeStore.open(path)["top"]
        for numbers in takes:
            assert np.array_equal(frames.take(np.array(numbers, int)), expected[numbers])


def test_a_file_is_opened_once_however_often_frames_are_read(tmp_path, cuts, monkeypatch):
    data, _ = cut_of(5, cuts)
    frames = write_store(tmp_path / "mine.zarr", [data, data, data])["top"]
    opened = []
    original = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(a) or original(*a, **k))
    for _ in range(3):
        frames.take(np.arange(0, len(frames), 5))
    assert len(opened) == 3


def test_a_zip_gives_the_same_frames(tmp_path, cuts):
    data, expected = cut_of(4, cuts)
    frames = write_store(tmp_path / "mine.zarr.zip", [data])["top"]
    for numbers in ([17, 3, 3], [22], [0, 1]):
        assert np.array_equal(frames.take(np.array(numbers)), expected[numbers])


def test_frames_on_the_way_are_not_converted(cuts, monkeypatch):
    data, expected = cut_of(2, cuts)  # one key frame, at the beginning
    converted = []
    original = RgbConverter.convert
    monkeypatch.setattr(
        RgbConverter, "convert", lambda s, f: converted.append(f.pts) or original(s, f)
    )
    reader = VideoReader(io.BytesIO(data))
    assert np.array_equal(next(reader.frames([20])), expected[20])
    assert converted == [20]


def test_a_damaged_packet_is_named_and_frames_elsewhere_are_still_read(tmp_path, cuts):
    data, expected = cut_of(2, cuts)
    store = write_store(tmp_path / "mine.zarr", [data, data])
    file = tmp_path / "mine.zarr" / "videos" / "top" / "000001.mp4"
    raw = bytearray(file.read_bytes())
    first = raw.index(b"mdat") + 4
    raw[first : first + 2000] = bytes(2000)
    file.write_bytes(raw)
    with pytest.raises(DataError, match=r"episode 1, frame 3 \(frame 26 of the dataset\)"):
        store["top"].take(np.array([N_FRAMES + 3]))
    assert np.array_equal(store["top"].take(np.array([3]))[0], expected[3])


def test_the_first_frame_that_a_shorter_video_lacks_is_named(tmp_path, cuts):
    data, expected = cut_of(5, cuts)
    store = write_store(tmp_path / "mine.zarr", [data, data])
    short = encode(frames_of(9), "libx264", g="2", bf="0")
    (tmp_path / "mine.zarr" / "videos" / "top" / "000001.mp4").write_bytes(short)
    with pytest.raises(DataError, match=r"episode 1, frame 9 \(.*\): .* the video has 9"):
        store["top"].read(N_FRAMES + 7, N_FRAMES + 12)
    assert np.array_equal(store["top"].read(0, 2), expected[:2])


def test_a_video_removed_while_it_is_used_is_named(tmp_path, cuts):
    store = write_store(tmp_path / "mine.zarr", [cut_of(5, cuts)[0]])
    assert store["top"].read(0, 1).shape == (1, 64, 64, 3)
    (tmp_path / "mine.zarr" / "videos" / "top" / "000000.mp4").unlink()
    with pytest.raises(DataError, match=r"episode 0, frame 20 .*cannot be read"):
        store["top"].read(20, 21)


def yuv_frame(height, width, full_range=False, bits=8):
    """A frame of random samples, and its [height, width, 3] in Y, Cb, Cr, colours repeated."""
    frame = av.VideoFrame(width, height, "yuv420p" if bits == 8 else f"yuv420p{bits}le")
    dtype = np.uint8 if bits == 8 else np.uint16
    frame.color_range = 2 if full_range else 1
    planes = []
    for n, plane in enumerate(frame.planes):
        rng = np.random.default_rng(n)
        samples = np.zeros((plane.height, plane.line_size // dtype().itemsize), dtype)
        samples[:, : plane.width] = rng.integers(60, 190, (plane.height, plane.width))
        plane.update((samples << (bits - 8)).tobytes())
        repeated = samples[:, : plane.width].repeat(2 if n else 1, 0).repeat(2 if n else 1, 1)
        planes.append(repeated[:height, :width])
    return frame, np.stack(planes, -1).astype(float)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 65), (48, 65), (49, 64), (3, 5)])
@pytest.mark.parametrize(("full_range", "bits"), [(False, 8), (True, 8), (False, 10)])
def test_colours_follow_bt601_for_any_size_and_depth(height, width, full_range, bits):
    frame, yuv = yuv_frame(height, width, full_range, bits)
    luma = yuv[..., 0] if full_range else (yuv[..., 0] - 16) * 255 / 219
    cb, cr = (yuv[..., 1:] - 128).transpose(2, 0, 1) * (1 if full_range else 255 / 224)
    expected = np.stack([luma + 1.402 * cr, luma - 0.3441 * cb - 0.7141 * cr, luma + 1.772 * cb], 2)
    found = RgbConverter().convert(frame).astype(float)
    assert np.abs(found - expected.clip(0, 255)).max() <= 3


def test_a_video_of_odd_size_is_read(tmp_path):
    frames = [np.full((49, 65, 3), (30 * k, 200 - 20 * k, 90), np.uint8) for k in range(6)]
    source = tmp_path / "odd.mp4"
    source.write_bytes(encode(frames, "mpeg4", qscale="1"))
    found = list(VideoReader(io.BytesIO(source.read_bytes())).frames([1, 4]))
    assert [frame.shape for frame in found] == [(49, 65, 3)] * 2
    assert np.abs(np.stack(found).astype(int) - np.stack([frames[1], frames[4]])).max() <= 6


def with_box(data, name, offset, values):
    """The file with bytes of a box's body overwritten."""
    at = data.index(name) + 4 + offset
    return data[:at] + values + data[at + len(values) :]


@pytest.mark.parametrize(
    ("name", "offset", "values", "words"),
    [
        (b"stsz", 4, struct.pack(">II", 1, 2**31), r"claims 2,147,483,648 frames"),
        (b"stts", 8, struct.pack(">I", 2**30), r"claims 1,073,741,\d+ frames"),
        (b"stsd", 8 + 32, struct.pack(">HH", 65535, 65535), "65,535 × 65,535"),
        (b"elst", 4, struct.pack(">I", 2**20), "1,048,576 entries"),
        (b"stsz", -8, struct.pack(">I", 2**31 - 1), "header is damaged"),
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_it_is_opened(
    cuts, monkeypatch, name, offset, values, words
):
    data = with_box(cut_of(1, cuts)[0], name, offset, values)
    monkeypatch.setattr(av, "open", lambda *a, **k: pytest.fail("it was opened"))
    with pytest.raises(VideoError, match=words):
        VideoReader(io.BytesIO(data))


def test_a_stream_larger_than_its_header_says_is_not_decoded(cuts, monkeypatch):
    data = with_box(cut_of(2, cuts)[0], b"stsd", 8 + 32, struct.pack(">HH", 16, 16))
    monkeypatch.setattr(mp4_header, "MAX_PIXELS", 1000)
    monkeypatch.setattr("dipole.data.store.video.container.MAX_PIXELS", 1000)
    with pytest.raises(VideoError):
        list(VideoReader(io.BytesIO(data)).frames([0]))


@given(st.binary(max_size=300), st.integers(0, 2**16), st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_any_damage_to_a_header_is_a_video_error_or_none(cuts, noise, at, keep):
    data = cut_of(2, cuts)[0]
    at %= len(data)
    damaged = data[:at] + noise + data[at + len(noise) :]
    try:
        read_header(io.BytesIO(damaged if keep else noise))
    except VideoError:
        return


@pytest.mark.parametrize("text", [b"#EXTM3U\n#EXTINF:1,\nother.mp4\n", b"ffconcat version 1.0\n"])
def test_a_list_of_other_files_is_no_video(text):
    with pytest.raises(VideoError, match="not a readable video"):
        open_container(io.BytesIO(text + bytes(100)))

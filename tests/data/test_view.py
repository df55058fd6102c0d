"""The page of `dipole data view`, as far as it can be seen without a browser."""

import base64
import json
import re
import struct
import zlib

import numpy as np
import pytest
import zarr

from dipole.apps.commands.data import main
from dipole.apps.terminal.errors import UsageError
from dipole.data import ConfigError, DataError, EpisodeStore, EpisodeWriter
from dipole.data.view import SCENES, Body, Disc, Scene, ViewSpec, write_page
from dipole.data.view.images import QUALITY_LEVELS, ImageSpec, camera_shape, encoded, shown_size
from dipole.data.view.numbers import MOST_FRAMES, read_series
from dipole.data.view.page import make_page
from dipole.data.view.selection import even_order, parse_episodes

EVIL = "</script><script>pwned=1</script><img src=x onerror=pwned=1>%%DATA%%"


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)<', html)[1])


def bytes_of(html, name):
    return base64.b64decode(re.search(rf'id="{name}">(.*?)<', html)[1])


def page_of(store, **spec):
    return make_page(store, ViewSpec(**spec))[0]


def test_named_episodes_keep_their_order_and_come_once():
    assert parse_episodes("7,0-2, 1", 8) == [7, 0, 1, 2]


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "3-2", "8", "0,,1"])
def test_episodes_that_cannot_be_read_or_are_not_there_are_refused(text):
    with pytest.raises(ConfigError, match="episodes"):
        parse_episodes(text, 8)


def test_the_first_few_of_the_even_order_are_spread_over_the_dataset():
    order = list(even_order(100))
    assert sorted(order) == list(range(100))
    assert order[:4] == [0, 64, 32, 96]


def test_numbers_reach_the_page_exactly(store):
    html = page_of(store([5, 3]), episodes="1")
    (entry,) = data_of(html)["episodes"]
    assert (entry["episode"], entry["start"], entry["frames"]) == (1, 5, 3)
    raw = zlib.decompress(bytes_of(html, "numbers-1"))
    planes = np.frombuffer(raw[: 4 * 2 * 3], np.uint8).reshape(4, 6)  # the action comes first
    action = np.ascontiguousarray(planes.T).view("<f4").reshape(2, 3)
    assert action.tolist() == [[5, 6, 7], [-5, -6, -7]]


def test_numbers_that_float32_would_round_are_kept_in_float64(tmp_path):
    with EpisodeWriter(tmp_path / "a.zarr", features={"time": {"dtype": "int64"}}) as writer:
        stamps = 2**40 + np.arange(4)
        writer.add_episode({"time": stamps, "action": np.zeros((4, 1))})
    series = read_series(EpisodeStore.open(tmp_path / "a.zarr"), "time", 0, 4)
    assert series.dtype == "f8"


def test_a_long_episode_keeps_the_least_and_the_greatest_of_each_bucket(tmp_path):
    n = 2 * MOST_FRAMES + 1
    values = np.zeros((n, 1), np.float32)
    values[1234], values[1235] = 7, -9  # a spike of one frame is what a person looks for
    with EpisodeWriter(tmp_path / "long.zarr") as writer:
        writer.add_episode({"action": values})
    series = read_series(EpisodeStore.open(tmp_path / "long.zarr"), "action", 0, n)
    assert series.stride == 5
    assert series.points == -(-n // 5)
    planes = np.frombuffer(series.data, np.uint8).reshape(4, -1)
    least, greatest = np.ascontiguousarray(planes.T).view("<f4").reshape(2, -1)
    assert (least[1234 // 5], greatest[1234 // 5]) == (0, 7)
    assert least[1235 // 5] == -9


def test_each_image_is_a_webp_of_its_own(store):
    html = page_of(store([3]))
    raw = bytes_of(html, "images-0")
    count, *sizes = struct.unpack("<4I", raw[:16])
    assert count == 3
    assert len(raw) == 16 + sum(sizes)
    assert raw[16:20] == b"RIFF"


@pytest.mark.parametrize(
    ("kind", "shape", "seen"),
    [
        ("image", [48, 64, 3], (48, 64, 3)),
        ("image", [3, 48, 64], (48, 64, 3)),
        ("image", [48, 64], (48, 64, 1)),
        ("image", [48, 64, 2], None),
        ("image", [7], None),
        ("state", [48, 64, 3], None),
        ("depth", [48, 64, 1], (48, 64, 1)),
    ],
)
def test_what_counts_as_an_image(kind, shape, seen):
    assert camera_shape(kind, shape) == seen


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 6, 3), np.uint8),
        np.zeros((3, 4, 6), np.uint8),
        np.zeros((4, 6, 4), np.uint8),
        np.full((4, 6), np.nan, np.float32),
        np.full((4, 6, 1), 1000, np.uint16),
    ],
)
def test_any_image_can_be_encoded(frame):
    shape = camera_shape("image", list(frame.shape))
    assert encoded(frame, shape, QUALITY_LEVELS[0])[8:12] == b"WEBP"


def test_images_are_never_enlarged():
    assert shown_size((48, 64, 3), ImageSpec(640, 75, 60)) == (64, 48)
    assert shown_size((480, 640, 3), ImageSpec(320, 75, 60)) == (320, 240)


def test_images_are_thinned_out_by_whole_frames():
    assert ImageSpec(96, 30, 10).stride(30) == 3
    assert ImageSpec(96, 30, 30).stride(29.97) == 1
    assert ImageSpec(96, 30, 2).stride(None) == 5


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Images that do not compress: 6 episodes of 20 frames, 3 MB of WebP as they are."""
    path = tmp_path_factory.mktemp("noisy") / "noisy.zarr"
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10) as writer:
        for _ in range(6):
            camera = rng.integers(0, 256, (20, 120, 160, 3), dtype=np.uint8)
            writer.add_episode({"camera": camera, "action": rng.normal(size=(20, 2))})
    return EpisodeStore.open(path)


@pytest.mark.parametrize("megabytes", [0.2, 0.5, 2.0])
def test_the_size_is_kept_and_used(noisy, tmp_path, megabytes):
    written = write_page(noisy, tmp_path / "a.html", ViewSpec(megabytes=megabytes))
    assert written.n_bytes == (tmp_path / "a.html").stat().st_size <= megabytes * 1e6
    assert written.episodes == 6
    assert written.with_images > 0
    if megabytes == 2.0:
        assert written.with_images == 6


def test_a_dataset_with_too_many_episodes_is_sampled_evenly(tmp_path):
    with EpisodeWriter(tmp_path / "many.zarr") as writer:
        rng = np.random.default_rng(0)
        for _ in range(60):
            writer.add_episode({"action": rng.normal(size=(800, 4))})
    store = EpisodeStore.open(tmp_path / "many.zarr")
    shown = [e["episode"] for e in data_of(page_of(store, megabytes=0.5))["episodes"]]
    assert 10 < len(shown) < 60
    assert shown == sorted(shown)
    assert max(np.diff([*shown, 60])) <= 2 * 60 / len(shown) + 1


def test_episodes_that_were_asked_for_and_do_not_fit_are_named(tmp_path):
    with EpisodeWriter(tmp_path / "many.zarr") as writer:
        rng = np.random.default_rng(0)
        for _ in range(3):
            writer.add_episode({"action": rng.normal(size=(5000, 3))})
    store = EpisodeStore.open(tmp_path / "many.zarr")
    written = write_page(store, tmp_path / "a.html", ViewSpec("2,0,1", 0.2))
    assert (written.episodes, written.left_out) == (1, [0, 1])
    with pytest.raises(ConfigError, match="0 MB"):
        ViewSpec(megabytes=0)


def test_the_ranges_tell_of_every_dimension(store):
    action, _ = data_of(page_of(store([10, 10])))["keys"]
    assert action["key"] == "action"
    low, high = action["ranges"]
    assert (low["min"], low["max"], low["mean"], low["not_finite"]) == (0, 19, 9.5, 0)
    assert (high["min"], high["max"]) == (-19, 0)
    assert sum(low["histogram"]) == 20


def test_numbers_that_are_none_are_counted_and_passed_over(tmp_path):
    state = np.ones((20, 2), np.float32)
    state[3, 0] = np.inf
    state[:, 1] = np.nan
    store = EpisodeStore.open(raw_store(tmp_path / "gaps.zarr", state))
    _, key = data_of(page_of(store))["keys"]
    assert key["ranges"][0]["not_finite"] == 1
    assert key["ranges"][1] is None


def raw_store(path, state, **attributes):
    """What EpisodeWriter would refuse."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    n = len(state)
    arrays = {"data/state": state, "data/action": np.zeros((n, 2), np.float32)}
    for name, values in {**arrays, "meta/episode_ends": np.array([n])}.items():
        array = group.create_array(
            name, shape=values.shape, chunks=values.shape, dtype=values.dtype,
            config={"write_empty_chunks": True},
        )  # fmt: skip
        array[:] = values
    group.attrs.update(attributes)
    return path


def test_a_datasets_texts_end_no_element_and_fill_no_place(tmp_path):
    state = np.ones((20, 2), np.float32)
    path = raw_store(
        tmp_path / "evil.zarr", state,
        environment={"id": EVIL, "version": [EVIL]},
        schema={"state": {"kind": "state", "units": EVIL, "names": [[EVIL, EVIL]]}},
    )  # fmt: skip
    html = page_of(EpisodeStore.open(path))
    assert EVIL not in html
    assert "<img" not in html
    assert html.count("</script>") == 3  # data, numbers, and the page's own
    data = data_of(html)
    assert data["keys"][1]["names"] == [EVIL, EVIL]
    assert data["facts"]["environment"].startswith(EVIL)


def test_names_of_dimensions_are_those_of_the_schema_where_there_is_one_for_each(tmp_path):
    state = np.ones((20, 2), np.float32)
    for names, shown in (
        ([["left", "right"]], ["left", "right"]),
        ({"motors": ["left", "right"]}, ["left", "right"]),
        (None, ["0", "1"]),
    ):
        path = raw_store(tmp_path / "names.zarr", state, schema={"state": {"names": names}})
        assert data_of(page_of(EpisodeStore.open(path)))["keys"][1]["names"] == shown


def test_an_unreadable_chunk_costs_its_own_episodes_only(write_v2):
    path = write_v2([8, 8, 8])
    (path / "data/state/1.0").unlink()
    (path / "data/camera/1.0.0.0").unlink()
    data = data_of(page_of(EpisodeStore.open(path)))
    states = [entry["series"]["state"] for entry in data["episodes"]]
    assert ["error" in state for state in states] == [False, True, False]
    assert "frames 8 to 15" in states[1]["error"]
    assert str(path.parent) not in states[1]["error"]
    assert ["error" in e["images"]["camera"] for e in data["episodes"]] == [False, True, False]
    assert data["facts"]["validation"]["problems"] == 2


def test_a_scene_is_only_drawn_where_the_dataset_has_what_it_shows(store):
    shapes = (Disc(1, "robot", Body("state", x=0, y=1, angle=2)),)
    store = store([20])
    assert Scene(2, 2, shapes).fits({"state": 3})
    assert not Scene(2, 2, shapes).fits({"state": 2})
    html, _ = make_page(store, ViewSpec(), Scene(2, 2, shapes))
    assert data_of(html)["scene"]["shapes"][0]["kind"] == "disc"
    far = Scene(2, 2, (Disc(1, "robot", Body("elsewhere", x=0, y=1)),))
    assert data_of(make_page(store, ViewSpec(), far)[0])["scene"] is None


def test_the_command_draws_the_scene_of_the_datasets_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["view", "bundled:pusht", "--episodes=0-2"]) == 0
    html = (tmp_path / "pusht_view.html").read_text()
    assert len(data_of(html)["scene"]["shapes"]) == 4
    assert "of at most 16), 3 of 750 episodes" in capsys.readouterr().out
    assert main(["view", "bundled:pusht", "--episodes=0", "--scene=none"]) == 0
    assert data_of((tmp_path / "pusht_view.html").read_text())["scene"] is None


def test_push_t_is_drawn_by_its_own_geometry():
    import dipole.envs  # noqa: F401
    from dipole.envs.pusht.geometry import GOAL_POSE, OUTLINE, to_world

    goal = SCENES["pusht"].shapes[0]
    assert np.array_equal(goal.points, to_world(GOAL_POSE, OUTLINE))


def test_only_a_page_is_written_anew(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(write([20]))
    assert main(["view", path]) == 0
    assert main(["view", path]) == 0
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(DataError, match="no page of dipole's"):
        main(["view", path, "--output=notes.html"])
    assert (tmp_path / "notes.html").read_text() == "mine"
    with pytest.raises(DataError, match="a folder that exists"):
        main(["view", path, "--output=none/a.html"])
    with pytest.raises(ConfigError, match="drawn from action and state"):
        main(["view", path, "--scene=pusht"])


def test_words_that_say_nothing_are_answered_with_the_nearest(write):
    path = str(write([20]))
    with pytest.raises(UsageError, match="written with dashes: --episodes 0"):
        main(["view", path, "episode=0"])
    with pytest.raises(UsageError, match="--size"):
        main(["view", path, "--size=big"])


def test_the_words_of_each_frame_are_in_the_page_where_the_task_changes(store, monkeypatch):
    spans = {0: ((0, "pick"), (2, "</script>place")), 1: ((0, "pick"),)}
    monkeypatch.setattr(
        EpisodeStore, "task_spans", lambda self, episode: spans[episode], raising=False
    )
    html = page_of(store([3, 2]))
    tasks = {entry["episode"]: entry["tasks"] for entry in data_of(html)["episodes"]}
    assert tasks == {0: [[0, "pick"], [2, "</script>place"]], 1: []}
    assert "</script>place" not in html

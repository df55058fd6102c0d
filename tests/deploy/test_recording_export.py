"""A recording as demonstrations: only what the robot really saw and did, without gaps."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore
from dipole.data.core.errors import DataError
from dipole.deploy import (
    Channel,
)
from dipole.deploy.recording.contents import begin_of
from dipole.deploy.recording.file_format import MAGIC, pack, read_recording
from dipole.deploy.recording.to_dataset import to_dataset
from dipole.deploy.types import Meaning

sys.path.insert(0, str(Path(__file__).parent / "support"))
from recorded_run import FORMAT_1, Handwritten, fly, fly_grouped


@pytest.fixture
def exported(tmp_path):
    """Export a recording written by hand: what was told, and the dataset."""

    def export(kept, shortest=2):
        kept.close()
        told = to_dataset(tmp_path / "flight.rec", tmp_path / "d.zarr", shortest)
        return told, EpisodeStore.open(tmp_path / "d.zarr")

    return export


@pytest.fixture
def kept(tmp_path):
    return Handwritten(tmp_path / "flight.rec")


def episodes(store, key="action"):
    """First entries of each episode."""
    first = store[key][:][:, 0].tolist()
    return [part.tolist() for part in np.split(np.array(first), store.episode_ends[:-1])]


def test_a_frame_is_what_was_seen_and_what_was_commanded_last_for_it(kept, exported):
    kept.actions(0, 4)
    kept.state(4, "STOPPED")
    told, store = exported(kept)
    assert store["x"][:].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]
    assert store["action"][:].tolist() == [[0, 0], [1, -1], [2, -2], [3, -3]]
    assert (told.episodes, told.frames, told.ends) == (1, 4, {"STOPPED": 1})


def test_names_units_rate_and_outcome_go_into_the_dataset(kept, exported):
    kept.actions(0, 4)
    kept.state(4, "STOPPED")
    kept.recorder.outcome({"success": 1.0, "task": "push the T"})
    _, store = exported(kept)
    assert store.fps == 10.0
    assert store.schema("action")["names"] == ["left", "right"]
    assert store.schema("action")["units"] == "rad"
    assert store.schema("x")["units"] == "rad"
    assert store.environment["outcome"] == {"success": 1.0}
    assert store.tasks == ["push the T"]


def test_each_number_of_an_action_has_its_own_unit(tmp_path):
    fly_grouped(tmp_path / "flight.rec")
    to_dataset(tmp_path / "flight.rec", tmp_path / "d.zarr", shortest=2)
    store = EpisodeStore.open(tmp_path / "d.zarr")
    assert list(store.schema("action")["units"]) == [*["rad", "rad", "", "m/s", "m"], *[""] * 4]
    assert store.schema("action")["names"][:4] == ["shoulder", "wrist", "opening", "forward"]
    assert store.schema("width")["units"] == "m"


@pytest.mark.parametrize(
    ("action", "units"),
    [
        ({"unit": "rad, m"}, ("rad", "m")),
        ({"unit": "m", "names": [*"xyzabcd"], "quaternions": [3]}, (*"mmm", "", "", "", "")),
    ],
)
def test_units_of_format_1_are_those_of_each_number(action, units):
    action = {"names": ["a", "b"], "measured_by": "x", "quaternions": []} | action
    beginning = next(read_recording(FORMAT_1)).values
    robot = beginning["robot"] | {"action": action}
    assert begin_of(FORMAT_1, 1, beginning | {"robot": robot}).action_units == units


def test_names_and_units_that_only_the_policy_knows_go_into_the_dataset(tmp_path, exported):
    kept = Handwritten(
        tmp_path / "flight.rec", channels={"x": Channel((2,))}, unit="",
        meaning={"x": Meaning(("left", "right"), "deg"), "action": Meaning((), ("deg", "rad"))},
    )  # fmt: skip
    kept.actions(0, 4)
    kept.state(4, "STOPPED")
    _, store = exported(kept)
    assert store.schema("x")["names"] == ["left", "right"]
    assert store.schema("x")["units"] == "deg"
    assert list(store.schema("action")["units"]) == ["deg", "rad"]


def test_a_refused_reading_is_not_exported(kept, exported):
    """The policy was shown the reading before it, and so is whoever learns from it."""
    kept.actions(0, 2)
    kept.act(2, {"x": np.float32([np.nan, 0])})
    kept.commands(2)
    kept.actions(3, 4)
    kept.state(4, "STOPPED")
    _, store = exported(kept)
    assert episodes(store, "x") == [[0, 1, 1, 3]]
    assert episodes(store) == [[0, 1, 2, 3]]


def test_a_reading_from_the_past_is_not_exported(kept, exported):
    kept.actions(0, 2)
    kept.act(2, {"x": np.float32([77, 0])}, times={"x": 0.05})
    kept.commands(2)
    kept.state(3, "STOPPED")
    _, store = exported(kept)
    assert episodes(store, "x") == [[0, 1, 1]]


def test_an_entry_that_the_policy_does_not_see_ends_the_episode_where_it_is_not_finite(
    tmp_path, exported
):
    channels = {"x": Channel((2,)), "force": Channel((1,))}
    kept = Handwritten(tmp_path / "flight.rec", ("x",), channels)
    for number in range(6):
        force = np.nan if number == 3 else number
        kept.act(number, {"x": np.float32([number, 0]), "force": np.float32([force])})
        kept.commands(number)
    kept.state(6, "STOPPED")
    told, store = exported(kept)
    assert episodes(store, "force") == [[0, 1, 2], [4, 5]]
    assert told.ends == {"force that is missing, or of another shape": 1, "STOPPED": 1}


def test_a_hold_ends_an_episode(kept, exported):
    kept.actions(0, 3)
    kept.act(3, hold="the next chunk has not arrived")
    kept.act(4, hold="the next chunk has not arrived")
    kept.actions(5, 8)
    kept.state(8, "STOPPED")
    told, store = exported(kept)
    assert episodes(store) == [[0, 1, 2], [5, 6, 7]]
    assert told.ends == {"hold": 1, "STOPPED": 1}


def test_an_action_that_was_missed_ends_an_episode(kept, exported):
    kept.actions(0, 3)
    kept.actions(4, 7)
    kept.state(7, "STOPPED")
    told, store = exported(kept)
    assert episodes(store) == [[0, 1], [4, 5, 6]]  # how long action 2 was held is not known
    assert told.ends == {"an action that was late or missing": 1, "STOPPED": 1}


@pytest.mark.parametrize("kind", ["act", "command", "state"])
def test_dropped_records_end_an_episode(kept, exported, tmp_path, kind):
    kept.actions(0, 3)
    kept.recorder._queue.drop(kind)
    kept.actions(3, 6)
    kept.state(6, "STOPPED")
    told, store = exported(kept)
    assert episodes(store) == [[0, 1], [3, 4, 5]]  # action 2's commands may be among them
    assert told.ends == {"missing records": 1, "STOPPED": 1}


def test_a_dropped_answer_ends_no_episode(kept, exported):
    kept.actions(0, 3)
    kept.recorder._queue.drop("result")
    kept.actions(3, 6)
    kept.state(6, "STOPPED")
    assert episodes(exported(kept)[1]) == [[0, 1, 2, 3, 4, 5]]


def test_the_action_in_which_a_fault_came_is_no_part_of_the_episode(kept, exported):
    kept.actions(0, 4)
    kept.state(3.5, "FAULT", "the robot's command() raised")
    told, store = exported(kept)
    assert episodes(store) == [[0, 1, 2]]
    assert told.ends == {"FAULT": 1}


def test_an_action_that_was_sent_in_part_is_no_part_of_the_episode(kept, exported):
    kept.actions(0, 3)
    kept.act(3)
    kept.commands(3, count=1)
    kept.state(3.5, "STOPPED", "SIGINT")
    assert episodes(exported(kept)[1]) == [[0, 1, 2]]


def test_two_runs_are_two_episodes_and_nothing_of_the_first_is_seen_in_the_second(kept, exported):
    kept.actions(0, 3)
    kept.state(3, "STOPPED")
    kept.state(3, "IDLE", "reset")
    kept.state(3, "ARMED", "armed")
    kept.act(3, values={})
    kept.commands(3)
    kept.actions(4, 7)
    kept.state(7, "STOPPED")
    told, store = exported(kept)
    assert episodes(store, "x") == [[0, 1, 2], [4, 5, 6]]
    assert told.ends == {"STOPPED": 2}


def test_a_dry_run_is_no_demonstration(tmp_path, capsys):
    kept = Handwritten(tmp_path / "flight.rec", dry_run=True)
    kept.actions(0, 20)
    kept.close()
    with pytest.raises(DataError, match=r"a dry run\. Nothing was sent"):
        to_dataset(tmp_path / "flight.rec", tmp_path / "d.zarr")
    assert main(["replay", str(tmp_path / "flight.rec"), "--export", str(tmp_path / "d.zarr")]) != 0
    assert not (tmp_path / "d.zarr").exists()


def test_readings_are_exported_aligned_where_the_policy_saw_them_aligned(tmp_path, exported):
    """The camera is 50 ms late: joints, which read the number of the action, are half one less."""
    channels = {"camera": Channel((1, 1, 1), "uint8"), "x": Channel((2,))}
    kept = Handwritten(
        tmp_path / "flight.rec", ("camera", "x"), channels, loop={"align_to": "camera"}
    )
    for number in range(5):
        values = {"camera": np.uint8([[[number]]]), "x": np.float32([number, 0])}
        kept.act(number, values, times={"camera": number / 10 - 0.05})
        kept.commands(number)
    kept.state(5, "STOPPED")
    _, store = exported(kept)
    assert store["x"][:, 0].tolist() == pytest.approx([0, 0.5, 1.5, 2.5, 3.5])
    assert store["camera"][:].ravel().tolist() == [0, 1, 2, 3, 4]
    assert store.schema("camera")["kind"] == "image"


def test_nothing_that_moved_too_briefly_is_a_demonstration(kept, tmp_path):
    kept.actions(0, 10)
    kept.act(10, hold="")
    kept.state(10, "STOPPED")
    kept.close()
    with pytest.raises(DataError, match=r"no episodes of at least 16 frames. 1 were shorter; they "
                                        r"ended by: STOPPED"):  # fmt: skip
        to_dataset(tmp_path / "flight.rec", tmp_path / "d.zarr")
    assert not (tmp_path / "d.zarr").exists()


def test_an_observation_called_action_is_refused_by_name(tmp_path):
    kept = Handwritten(tmp_path / "flight.rec", ("action",), {"action": Channel((2,))})
    kept.close()
    with pytest.raises(DataError, match="has an entry 'action'"):
        to_dataset(tmp_path / "flight.rec", tmp_path / "d.zarr")


def test_of_a_damaged_recording_what_comes_before_is_exported(kept, tmp_path, capsys):
    kept.actions(0, 40)
    kept.close()
    path = tmp_path / "flight.rec"
    whole = path.read_bytes()
    records = list(read_recording(path))
    before = MAGIC + b"".join(map(pack, records[: 1 + 3 * 30]))
    path.write_bytes(before + b"\xff" + whole[len(before) + 1 :])
    assert main(["replay", str(path), "--export", str(tmp_path / "d.zarr")]) == 1
    assert "record 91 is damaged" in capsys.readouterr().out
    assert EpisodeStore.open(tmp_path / "d.zarr").n_frames == 29


def test_a_run_of_the_loop_exports_what_the_robot_was_sent(tmp_path, capsys):
    robot, report, _ = fly(tmp_path / "flight.rec", delay=0.2)
    assert main(["replay", str(tmp_path / "flight.rec"), "--export", str(tmp_path / "d.zarr")]) == 0
    store = EpisodeStore.open(tmp_path / "d.zarr")
    said = capsys.readouterr().out
    assert f"{store.n_episodes} episodes, {store.n_frames} frames" in said
    assert "hold (" in said
    assert sorted(store.keys()) == ["action", "x"]
    assert 50 < store.n_frames <= report.counts["actions"]
    sent = {tuple(np.float32(action)) for _, action in robot.sent}
    assert all(tuple(action) in sent for action in store["action"][:])


def test_a_recording_of_format_1_exports(tmp_path, capsys):
    assert main(["replay", str(FORMAT_1), "--export", str(tmp_path / "d.zarr")]) == 0
    said = capsys.readouterr().out
    assert "2 episodes, 62 frames; they ended by hold (2), STOPPED (1)" in said
    assert "recordings of format 1 do not say whether they were a dry run" in said
    store = EpisodeStore.open(tmp_path / "d.zarr")
    assert store.episode_ends.tolist() == [36, 62]
    assert store.schema("action")["names"] == ["a", "b"]
    assert np.isfinite(store["x"][:]).all()  # two of its readings are NaN

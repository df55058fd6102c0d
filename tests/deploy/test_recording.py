"""The flight recorder: what it keeps gives the same actions again, and never holds up control."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data import EpisodeStore
from dipole.data.errors import DataError
from dipole.deploy.recording import recorder
from dipole.deploy.recording.file_format import MAGIC, Record, pack, read_recording
from dipole.deploy.recording.recorder import FlightRecorder
from dipole.deploy.recording.replay import export, replay

sys.path.insert(0, str(Path(__file__).parent / "support"))
from recorded_run import fly


@pytest.mark.parametrize("merger", ["switch", "cross_fade", "ensemble", "rtc"])
def test_replaying_a_recording_reproduces_the_same_actions(tmp_path, merger):
    robot, report, _ = fly(tmp_path / "flight.rec", merger=merger)
    assert report.counts["holds"] > 2
    assert report.counts["clamped"] > 10
    assert report.counts["chunks_refused"] >= 1
    decisions = list(replay(tmp_path / "flight.rec"))
    assert len(decisions) > 150
    assert all(decision.same for decision in decisions)
    commands = [r.arrays["command"] for r in read_recording(tmp_path / "flight.rec")
                if r.kind == "command"]  # fmt: skip
    assert np.array_equal(commands, [action for _, action in robot.sent])


def test_a_recording_that_was_altered_is_not_the_same_again(tmp_path):
    fly(tmp_path / "flight.rec", seconds=3.0)
    records = list(read_recording(tmp_path / "flight.rec"))
    changed = next(r for r in records if r.kind == "result")
    changed.arrays["action"][:] += 0.5
    (tmp_path / "other.rec").write_bytes(MAGIC + b"".join(map(pack, records)))
    assert not all(decision.same for decision in replay(tmp_path / "other.rec"))
    assert main(["replay", str(tmp_path / "other.rec")]) == 1
    assert main(["replay", str(tmp_path / "flight.rec")]) == 0


def test_a_recording_exports_to_the_episode_store(tmp_path, capsys):
    robot, report, _ = fly(tmp_path / "flight.rec", delay=0.2)
    assert main(["replay", str(tmp_path / "flight.rec"), "--export", str(tmp_path / "d.zarr")]) == 0
    store = EpisodeStore.open(tmp_path / "d.zarr")
    assert f"{store.n_episodes} episodes" in capsys.readouterr().out
    assert store.fps == 10.0
    assert sorted(store.keys()) == ["action", "x"]
    assert 50 < store.n_frames <= report.counts["actions"]
    sent = {tuple(np.float32(action)) for _, action in robot.sent}
    assert sum(tuple(action) in sent for action in store["action"][:]) > 0.9 * store.n_frames


def test_nothing_that_moved_too_briefly_is_a_demonstration(tmp_path):
    fly(tmp_path / "flight.rec", seconds=1.0)
    with pytest.raises(DataError, match="no episodes"):
        export(tmp_path / "flight.rec", tmp_path / "d.zarr", shortest=100)


def test_records_come_back_as_they_were(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.uint8([[255]])}
    record = Record("act", {"now": 1.5, "hold": "é"}, arrays)
    (tmp_path / "one.rec").write_bytes(MAGIC + pack(record))
    (again,) = read_recording(tmp_path / "one.rec")
    assert (again.kind, again.values) == ("act", record.values)
    for name, array in arrays.items():
        assert again.arrays[name].dtype == array.dtype
        assert np.array_equal(again.arrays[name], array)


def test_a_recording_that_was_cut_off_is_read_up_to_there(tmp_path):
    fly(tmp_path / "flight.rec", seconds=3.0)
    whole = (tmp_path / "flight.rec").read_bytes()
    n_records = len(list(read_recording(tmp_path / "flight.rec")))
    (tmp_path / "cut.rec").write_bytes(whole[:-5])
    assert len(list(read_recording(tmp_path / "cut.rec"))) == n_records - 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"x" + data[1:], "not a dipole recording"),
        (lambda data: data[:200] + b"\x00" + data[201:], "damaged"),
        (lambda data: MAGIC + b"\xff" * 40, "damaged"),
        (lambda data: MAGIC, "no beginning"),
    ],
)
def test_a_damaged_recording_is_named(tmp_path, damage, message):
    fly(tmp_path / "flight.rec", seconds=1.0)
    path = tmp_path / "damaged.rec"
    path.write_bytes(damage((tmp_path / "flight.rec").read_bytes()))
    with pytest.raises(DataError, match=message):
        list(replay(path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_drops_records_counts_them_and_control_goes_on(tmp_path):
    with open("/dev/full", "wb", buffering=0) as full:
        _, report, kept = fly(tmp_path / "flight.rec", seconds=3.0, file=full)
    _, without, _ = fly(tmp_path / "other.rec", seconds=3.0)
    assert kept.dropped > 250
    assert report.counts == without.counts


def test_a_disk_that_does_not_answer_holds_nothing_up(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "QUEUED", 20)
    answer = threading.Event()
    monkeypatch.setattr(FlightRecorder, "_append", lambda self, record: answer.wait(30))
    threading.Timer(1.0, answer.set).start()
    _, report, kept = fly(tmp_path / "flight.rec", seconds=3.0)
    assert kept.dropped > 200
    assert report.counts["slots"] + report.counts["missed_slots"] >= 299


def test_a_recording_is_never_overwritten(tmp_path):
    fly(tmp_path / "flight.rec", seconds=0.5)
    with pytest.raises(FileExistsError):
        fly(tmp_path / "flight.rec", seconds=0.5)

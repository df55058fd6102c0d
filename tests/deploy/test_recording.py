"""The flight recorder: what it keeps, and that it never holds up control."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError, DataError
from dipole.deploy import Channel, Reading, VirtualClock
from dipole.deploy.inference import VirtualInference
from dipole.deploy.recording import recorder
from dipole.deploy.recording.file_format import read_recording
from dipole.deploy.types import Decision

sys.path.insert(0, str(Path(__file__).parent / "support"))
from disks import Blocked, Disk, full
from recorded_run import Handwritten, fly, kinds
from virtual_robot import SPEC_OF_X, counting


@pytest.fixture
def disk(monkeypatch):
    """Have recordings written to a disk that calls before(n) ahead of write number n."""

    def use(before):
        monkeypatch.setattr(recorder, "open_new", lambda path: Disk(path, before))

    return use


def test_a_command_that_was_not_sent_is_not_recorded(tmp_path):
    """From 101 s on nothing is sent any more, because the robot was told to stop."""

    def stopped_at_101(reading, loop):
        if reading.time > 101:
            loop.supervisor.stop()
        return reading

    robot, report, _ = fly(tmp_path / "flight.rec", seconds=3.0, look=stopped_at_101)
    recorded = [r for r in read_recording(tmp_path / "flight.rec") if r.kind == "command"]
    assert len(recorded) == len(robot.sent)
    assert 50 < len(recorded) < report.counts["slots"] - 100


def test_a_channel_declared_by_a_type_of_numpy_is_recorded(tmp_path):
    kept = Handwritten(tmp_path / "flight.rec", channels={"x": Channel((2,), np.float32)})
    kept.actions(0, 2)
    kept.close()
    assert kept.recorder.problems == []
    begin = next(iter(read_recording(tmp_path / "flight.rec")))
    assert begin.values["robot"]["observation"]["x"]["dtype"] == "float32"


def test_a_beginning_that_cannot_be_written_is_refused_before_anybody_arms(tmp_path):
    """Else every record after it would be dropped, and the run recorded nowhere."""
    with pytest.raises(ConfigError, match=r"cannot be written \(object is not recorded\)"):
        Handwritten(tmp_path / "flight.rec", loop={"merger_options": {"steps": object()}})


def test_how_long_chunks_take_in_warm_up_is_told_through_the_recorder(tmp_path):
    class Slow(VirtualInference):
        def warm_up(self, observation, calls, known):
            return [0.1, 0.2]

    kept = Handwritten(tmp_path / "flight.rec")
    slow = Slow(SPEC_OF_X, counting(), VirtualClock())
    assert kept.recorder.listen(slow).warm_up({}, 2) == [0.1, 0.2]
    kept.close()


# A slow disk, a full disk ---------------------------------------------------------------------


def test_pictures_that_wait_for_the_disk_do_not_fill_the_memory(tmp_path, disk):
    """100 pictures of 1 MB, room for 10.5: those that do not fit are counted by kind."""
    blocked = Blocked(first=1)  # the beginning is written
    disk(blocked)
    channels = {"camera": Channel((1000, 1000, 1), "uint8")}
    kept = Handwritten(tmp_path / "flight.rec", ("camera",), channels, max_bytes=int(10.5 * 2**20))
    picture = {"camera": np.zeros((1000, 1000, 1), np.uint8)}
    kept.act(0, picture)
    blocked.reached.wait(30)
    tracemalloc.start()
    for number in range(1, 100):
        kept.act(number, picture)
        kept.commands(number)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 11 * 2**20
    assert kept.recorder.dropped_by_kind == {"act": 90}  # small records find room
    blocked.answer.set()
    assert kept.close() == 90
    records = list(read_recording(tmp_path / "flight.rec"))
    assert [r.kind for r in records].count("act") == 10
    assert [r.kind for r in records].count("command") == 198
    assert records[-1].kind == "end"
    assert records[-1].values["dropped"] == {"act": 90}


def test_a_record_after_dropped_ones_says_how_many_are_missing(tmp_path, disk):
    blocked = Blocked(first=1)
    disk(blocked)
    kept = Handwritten(tmp_path / "flight.rec", max_bytes=8000)
    kept.act(0)
    blocked.reached.wait(30)
    for number in range(1, 20):
        kept.act(number)
        kept.commands(number)
    dropped = dict(kept.recorder.dropped_by_kind)
    assert sum(dropped.values()) == 19 + 38 - 6  # 7 records of 1 KB and more fit into 8,000 bytes
    blocked.answer.set()
    for _ in range(3000):  # until there is room again
        if kept.recorder._queue.has_room(7000):
            break
        kept.recorder._thread.join(0.01)
    kept.act(20)
    kept.close()
    records = list(read_recording(tmp_path / "flight.rec"))
    after = next(r for r in records if r.values.get("now") == 2.0)
    assert after.missing == dropped
    assert not any(r.missing for r in records if r is not after)


def test_a_picture_is_copied_once_on_its_way_to_the_disk(tmp_path, disk):
    blocked = Blocked(first=1)
    disk(blocked)
    channels = {"camera": Channel((4000, 5000, 1), "uint8")}
    picture = {"camera": np.zeros((4000, 5000, 1), np.uint8)}  # 20 MB
    kept = Handwritten(tmp_path / "flight.rec", ("camera",), channels)
    tracemalloc.start()
    kept.act(0, picture)
    blocked.reached.wait(30)
    blocked.answer.set()
    assert kept.close() == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 20e6 < peak < 21e6


def test_a_picture_that_nobody_can_change_is_not_copied(tmp_path):
    channels = {"camera": Channel((4000, 5000, 1), "uint8")}
    picture = np.zeros((4000, 5000, 1), np.uint8)
    picture.setflags(write=False)
    kept = Handwritten(tmp_path / "flight.rec", ("camera",), channels)
    tracemalloc.start()
    kept.act(0, {"camera": picture})
    assert kept.close() == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_pictures_of_an_immutable_reading_are_not_copied(tmp_path):
    channels = {"camera": Channel((4000, 5000, 1), "uint8")}
    reading = Reading(0.0, {"camera": np.zeros((4000, 5000, 1), np.uint8)}, immutable=True)
    kept = Handwritten(tmp_path / "flight.rec", ("camera",), channels)
    tracemalloc.start()
    kept.recorder.act(0.0, reading, Decision(hold="nothing is planned"))
    assert kept.close() == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    records = list(read_recording(tmp_path / "flight.rec"))
    assert records[-2].arrays["seen.camera"].shape == (4000, 5000, 1)


def test_memory_that_a_driver_uses_again_is_recorded_as_it_was(tmp_path, disk):
    """Also where the driver gives out a read-only view of it."""
    blocked = Blocked(first=1)
    disk(blocked)
    kept = Handwritten(tmp_path / "flight.rec")
    memory = np.float32([1, 2])
    view = memory[:]
    view.setflags(write=False)
    kept.act(0, {"x": memory})
    kept.act(1, {"x": view})
    memory[:] = 7
    blocked.answer.set()
    kept.close()
    records = list(read_recording(tmp_path / "flight.rec"))
    assert [r.arrays["seen.x"].tolist() for r in records if r.kind == "act"] == [[1, 2], [1, 2]]


def test_closing_tells_how_many_records_a_slow_disk_did_not_take(tmp_path, disk):
    blocked = Blocked(first=30)
    disk(blocked)
    kept = Handwritten(tmp_path / "flight.rec")
    for number in range(200):
        kept.act(number)
    blocked.reached.wait(30)
    assert kept.recorder.close(timeout=0.05) == 171  # of 200; the beginning and 29 are written
    assert kept.recorder.close(timeout=60) == 171  # it was given up, and is not waited for
    assert kept.recorder.dropped == 171
    (problem,) = kept.recorder.problems
    assert "flight.rec: 171 records are missing (act 171)" in problem
    assert "within 0.05 s" in problem
    assert kinds(tmp_path / "flight.rec") == ["begin"] + ["act"] * 29
    blocked.answer.set()


def test_a_recording_that_is_whole_has_no_problems(tmp_path):
    kept = Handwritten(tmp_path / "flight.rec")
    kept.actions(0, 200)
    assert kept.close() == 0
    assert kept.recorder.problems == []
    assert kinds(tmp_path / "flight.rec").count("command") == 400


def test_what_comes_after_the_end_is_counted(tmp_path):
    kept = Handwritten(tmp_path / "flight.rec")
    kept.close()
    kept.act(0)
    assert kept.recorder.dropped == 1
    assert kinds(tmp_path / "flight.rec") == ["begin", "end"]


def test_a_disk_that_is_full_for_a_while_costs_those_records_only(tmp_path, disk):
    """Half of each record that failed is on the disk: it is removed before the next one."""
    disk(lambda number: full() if number in (5, 6, 7) else None)
    kept = Handwritten(tmp_path / "flight.rec")
    for number in range(10):
        kept.act(number)
    assert kept.close() == 3
    (problem,) = kept.recorder.problems
    assert "3 records are missing (act 3): OSError: [Errno 28] No space left" in problem
    acts = [r for r in read_recording(tmp_path / "flight.rec") if r.kind == "act"]
    assert [r.values["now"] for r in acts] == [0.0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.9]
    assert [dict(r.missing) for r in acts] == [{}] * 4 + [{"act": 3}] + [{}] * 2


def test_a_beginning_that_the_full_disk_refused_is_written_later(tmp_path, disk):
    disk(lambda number: full() if number < 2 else None)
    kept = Handwritten(tmp_path / "flight.rec")
    for number in range(5):
        kept.act(number)
    assert kept.close() == 1
    records = list(read_recording(tmp_path / "flight.rec"))
    assert [r.kind for r in records] == ["begin", *["act"] * 4, "end"]
    assert records[1].missing == {"act": 1}


def test_the_file_is_readable_after_every_single_write(tmp_path, disk):
    path = tmp_path / "flight.rec"
    seen = []
    disk(lambda number: seen.append(len(kinds(path))))
    kept = Handwritten(path)
    kept.actions(0, 10)
    kept.close()
    assert seen == list(range(32))


@pytest.mark.parametrize(
    "values",
    [
        {"x": np.float32([0, 0]), "label": np.array(["text"])},
        {"x": np.float32([0, 0]), "label": [[1], [1, 2]]},
        {"x": np.float32([0, 0]), "label": object()},
    ],
)
def test_an_entry_that_is_no_array_of_numbers_costs_itself_only(tmp_path, values):
    kept = Handwritten(tmp_path / "flight.rec")
    kept.act(0, values)
    assert kept.close() == 0
    record = list(read_recording(tmp_path / "flight.rec"))[1]
    assert list(record.arrays) == ["action", "seen.x"]


def test_a_value_that_cannot_be_written_costs_its_record_only(tmp_path):
    kept = Handwritten(tmp_path / "flight.rec")
    kept.act(0)
    kept.act(1, times={"x": object()})
    kept.act(2)
    assert kept.close() == 1
    assert "object is not recorded" in kept.recorder.problems[0]
    assert list(read_recording(tmp_path / "flight.rec"))[2].missing == {"act": 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_drops_records_counts_them_and_control_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, open("/dev/full", "wb", buffering=0) as file:
        patch.setattr(recorder, "open_new", lambda path: file)
        _, report, kept = fly(tmp_path / "flight.rec", seconds=3.0)
    _, without, _ = fly(tmp_path / "other.rec", seconds=3.0)
    assert kept.dropped > 250
    assert "No space left" in kept.problems[0]
    assert report.counts == without.counts


def test_a_disk_that_does_not_answer_holds_nothing_up(tmp_path, disk):
    """The loop runs to its end while the very first write waits."""
    blocked = Blocked(first=0)
    disk(blocked)
    options = {"end": lambda kept: None, "max_bytes": 20_000}
    _, report, kept = fly(tmp_path / "flight.rec", seconds=3.0, **options)
    assert not blocked.answer.is_set()
    assert kept.dropped > 200
    blocked.answer.set()
    kept.close()
    assert kinds(tmp_path / "flight.rec")[0] == "begin"
    disk(lambda number: None)
    _, unhindered, _ = fly(tmp_path / "other.rec", seconds=3.0)
    assert report.counts == unhindered.counts


def test_a_recording_is_never_overwritten(tmp_path):
    fly(tmp_path / "flight.rec", seconds=0.5)
    with pytest.raises(FileExistsError):
        fly(tmp_path / "flight.rec", seconds=0.5)


def test_where_no_recording_can_be_written_that_is_said_before_anything_moves(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="no recording can be written"):
        Handwritten(tmp_path / "file" / "flight.rec")

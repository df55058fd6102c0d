"""The flight recorder: what it keeps gives the same actions again, and never holds up control."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data.errors import DataError
from dipole.deploy import Channel
from dipole.deploy.recording import recorder
from dipole.deploy.recording.file_format import MAGIC, pack, read_recording
from dipole.deploy.recording.replay import Verdict, replay

sys.path.insert(0, str(Path(__file__).parent / "support"))
from disks import Blocked, Disk, full
from recorded_run import FORMAT_1, Handwritten, fly


def kinds(path):
    return [record.kind for record in read_recording(path)]


@pytest.fixture
def disk(monkeypatch):
    """Have recordings written to a disk that calls before(n) ahead of write number n."""

    def use(before):
        monkeypatch.setattr(recorder, "open_new", lambda path: Disk(path, before))

    return use


# Replay ---------------------------------------------------------------------------------------


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


def test_what_follows_missing_records_is_not_said_to_be_the_same_or_different(tmp_path, capsys):
    fly(tmp_path / "flight.rec", seconds=3.0)
    records = list(read_recording(tmp_path / "flight.rec"))
    lost = next(n for n, r in enumerate(records) if r.kind == "act" and r.values["now"] > 101.55)
    records[lost + 1].missing["act"] = 1
    del records[lost]
    (tmp_path / "gap.rec").write_bytes(MAGIC + b"".join(map(pack, records)))
    decisions = list(replay(tmp_path / "gap.rec"))
    verdicts = [decision.verdict for decision in decisions]
    assert verdicts == [
        Verdict.SAME if decision.then.values["now"] < 101.55 else Verdict.UNKNOWN
        for decision in decisions
    ]
    assert verdicts.count(Verdict.UNKNOWN) == 13
    assert main(["replay", str(tmp_path / "gap.rec")]) == 0
    assert "13 could not be decided again: records are missing" in capsys.readouterr().out


def test_a_recording_of_format_1_is_not_decided_again_and_says_so(capsys):
    assert main(["replay", str(FORMAT_1)]) != 0
    said = capsys.readouterr().err
    assert "limits ran at the policy's rate" in said
    assert "--export and --mcap work" in said
    assert kinds(FORMAT_1).count("act") == 80


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


def test_closing_tells_how_many_records_a_slow_disk_did_not_take(tmp_path, disk):
    blocked = Blocked(first=30)
    disk(blocked)
    kept = Handwritten(tmp_path / "flight.rec")
    for number in range(200):
        kept.act(number)
    blocked.reached.wait(30)
    assert kept.recorder.close(timeout=0.05) == 171  # of 200; the beginning and 29 are written
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
    kept.close()
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
    assert report.counts["missed_slots"] == 0
    assert kept.dropped > 200
    blocked.answer.set()
    kept.close()
    assert kinds(tmp_path / "flight.rec")[0] == "begin"


def test_a_recording_is_never_overwritten(tmp_path):
    fly(tmp_path / "flight.rec", seconds=0.5)
    with pytest.raises(FileExistsError):
        fly(tmp_path / "flight.rec", seconds=0.5)


def test_where_no_recording_can_be_written_that_is_said_before_anything_moves(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="no recording can be written"):
        Handwritten(tmp_path / "file" / "flight.rec")

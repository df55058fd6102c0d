"""Recordings that are decided again: the same decisions, the same commands, or what is missing."""

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.deploy.recording.file_format import MAGIC, pack, read_recording
from dipole.deploy.recording.replay import Verdict, replay

sys.path.insert(0, str(Path(__file__).parent / "support"))
from recorded_run import FORMAT_1, fly, fly_grouped, kinds
from virtual_robot import run


@pytest.mark.parametrize("merger", ["switch", "cross_fade", "ensemble", "rtc"])
def test_replaying_a_recording_makes_the_same_decisions_and_commands(tmp_path, merger):
    robot, report, _ = fly(tmp_path / "flight.rec", merger=merger)
    assert report.counts["holds"] > 2
    assert report.counts["clamped"] > 10
    assert report.counts["chunks_refused"] >= 1
    again = list(replay(tmp_path / "flight.rec"))
    counts = Counter((one.then.kind, one.verdict) for one in again)
    assert counts.keys() == {("act", Verdict.SAME), ("command", Verdict.SAME)}
    assert counts["act", Verdict.SAME] > 150
    assert counts["command", Verdict.SAME] == len(robot.sent) > 1200
    commands = [r.arrays["command"] for r in read_recording(tmp_path / "flight.rec")
                if r.kind == "command"]  # fmt: skip
    assert np.array_equal(commands, [action for _, action in robot.sent])


def test_a_run_of_action_groups_is_made_again_too(tmp_path):
    """A joint without an end, a step, a cubic, a base's velocity, and a rotation."""
    robot = fly_grouped(tmp_path / "flight.rec")
    counts = Counter((one.then.kind, one.verdict) for one in replay(tmp_path / "flight.rec"))
    assert counts == {("act", Verdict.SAME): 60, ("command", Verdict.SAME): len(robot.sent)}
    assert np.ptp([action for _, action in robot.sent], axis=0).min() > 0.01


def test_runs_after_a_reset_are_made_again_too(tmp_path):
    """The second run has a queue of its own, whose chunks are counted on from the first's."""

    def again(loop):
        loop.reset()
        run(loop, 4.0)

    robot, _, _ = fly(tmp_path / "flight.rec", seconds=4.0, then=again)
    verdicts = Counter(one.verdict for one in replay(tmp_path / "flight.rec"))
    assert verdicts.keys() == {Verdict.SAME}
    assert [r.values["state"] for r in read_recording(tmp_path / "flight.rec")
            if r.kind == "state"].count("STOPPED") == 2  # fmt: skip
    assert verdicts[Verdict.SAME] > len(robot.sent) > 500


@pytest.mark.parametrize(("kind", "array"), [("result", "action"), ("command", "command")])
def test_a_recording_that_was_altered_is_not_the_same_again(tmp_path, kind, array):
    fly(tmp_path / "flight.rec", seconds=3.0)
    records = list(read_recording(tmp_path / "flight.rec"))
    changed = next(r for r in records if r.kind == kind)
    changed.arrays[array][:] += 0.5
    (tmp_path / "other.rec").write_bytes(MAGIC + b"".join(map(pack, records)))
    assert Verdict.DIFFERENT in {one.verdict for one in replay(tmp_path / "other.rec")}
    assert main(["replay", str(tmp_path / "other.rec")]) == 1
    assert main(["replay", str(tmp_path / "flight.rec")]) == 0


def without(kind, path, time):
    """The same recording without the first record of a kind after a time; and the time of it."""
    records = list(read_recording(path))
    lost = next(n for n, r in enumerate(records)
                if r.kind == kind and r.values.get("now", math.inf) > time)  # fmt: skip
    records[lost + 1].missing[kind] = 1
    now = records.pop(lost).values["now"]
    other = path.with_name("gap.rec")
    other.write_bytes(MAGIC + b"".join(map(pack, records)))
    return other, now


def test_what_follows_missing_records_is_neither_the_same_nor_different(tmp_path, capsys):
    fly(tmp_path / "flight.rec", seconds=3.0)
    path, lost = without("act", tmp_path / "flight.rec", 101.55)
    again = list(replay(path))
    assert [one.verdict for one in again] == [
        Verdict.SAME if one.then.values["now"] < lost else Verdict.UNKNOWN for one in again
    ]
    assert main(["replay", str(path)]) == 0
    said = capsys.readouterr().out
    assert "16 of 29 decisions are the same again" in said
    assert "13 decisions could not be made again: records are missing" in said


def test_decisions_do_not_depend_on_a_command_that_is_missing(tmp_path):
    fly(tmp_path / "flight.rec", seconds=3.0)
    path, lost = without("command", tmp_path / "flight.rec", 101.55)
    for one in replay(path):
        known = one.then.kind == "act" or one.then.values["now"] < lost
        assert one.verdict is (Verdict.SAME if known else Verdict.UNKNOWN)


def test_commands_are_made_again_from_the_next_run_on(tmp_path):
    def again(loop):
        loop.reset()
        run(loop, 2.0)

    fly(tmp_path / "flight.rec", seconds=2.0, then=again)
    path, lost = without("command", tmp_path / "flight.rec", 101.0)
    verdicts = [(one.then.values["now"], one.verdict) for one in replay(path)
                if one.then.kind == "command"]  # fmt: skip
    assert {verdict for time, verdict in verdicts if time < lost} == {Verdict.SAME}
    assert {verdict for time, verdict in verdicts if lost < time < 102} == {Verdict.UNKNOWN}
    assert {verdict for time, verdict in verdicts if time > 103} == {Verdict.SAME}


def test_a_recording_of_format_1_is_not_decided_again_and_says_so(capsys):
    assert main(["replay", str(FORMAT_1)]) != 0
    said = capsys.readouterr().err
    assert "limits ran at the policy's rate" in said
    assert "--export and --mcap work" in said
    assert kinds(FORMAT_1).count("act") == 80

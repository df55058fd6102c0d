"""How a run ended is written and printed, whatever goes wrong after the robot was stopped."""

import errno
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import LoopConfig
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.receding_horizon import RecedingHorizon
from dipole.deploy.loop.run import RunConfig, ended_well, run_policy
from dipole.deploy.safety.command_filter import OutsideLimits

sys.path.insert(0, str(Path(__file__).parent / "support"))
from enough import LONG, end_long_runs_after
from real_processes import RealRobot, quick

PATIENT = LoopConfig(max_observation_age=5.0, call_timeout=2.0)


def config(folder, **settings):
    settings = {
        "seconds": LONG,
        "arm": "now",
        "watchdog": None,
        "output": folder / "run",
    } | settings
    return RunConfig(PATIENT, **settings)


def infer():
    return ThreadInference(*quick())


def written(folder):
    return json.loads((folder / "run" / "report.json").read_text())


@pytest.fixture(autouse=True)
def a_long_run_ends_once_it_has_moved(monkeypatch):
    end_long_runs_after(monkeypatch, 1)


class ArmWithResult(RealRobot):
    """Its result is what `say` returns."""

    def __init__(self, folder, say):
        super().__init__(folder)
        self.say = say

    def result(self):
        self.calls.append("result")
        return self.say()


def raise_error():
    raise OSError("connection is closed")


# What the robot says of the task ----------------------------------------------------------------


def test_the_result_is_asked_for_once_and_while_the_robot_is_connected(tmp_path):
    robot = ArmWithResult(tmp_path, lambda: {"reward": 0.8})
    run_policy(robot, infer, config(tmp_path))
    assert [call for call in robot.calls if call != "hold"] == [
        "connect",
        "stop",
        "result",
        "close",
    ]


@pytest.mark.parametrize("number", [np.float32(0.5), np.array(0.5), np.float64(0.5), 0.5], ids=repr)
def test_numbers_of_any_kind_become_numbers_of_the_report(tmp_path, number):
    run_policy(ArmWithResult(tmp_path, lambda: {"reward": number}), infer, config(tmp_path))
    assert written(tmp_path)["task"] == {"reward": 0.5}


@pytest.mark.parametrize(
    ("say", "note"),
    [
        (raise_error, "the robot's result() failed: OSError: connection is closed"),
        (lambda: None, "the robot's result() returned None: {name: number} is needed"),
        (
            lambda: {"outcome": "dropped"},
            "the robot's result() says outcome = 'dropped': a finite number is needed",
        ),
        (
            lambda: {"x": float("nan")},
            "the robot's result() says x = nan: a finite number is needed",
        ),
        (
            lambda: {"x": np.zeros(2)},
            "the robot's result() says x = array([0., 0.]): a finite number is needed",
        ),
    ],
)
def test_a_result_that_cannot_be_used_is_a_note_of_the_report(tmp_path, capsys, say, note):
    report = run_policy(ArmWithResult(tmp_path, say), infer, config(tmp_path))
    assert ended_well(report)
    assert written(tmp_path)["stopped"] is True
    assert written(tmp_path)["notes"] == [note]
    assert note in capsys.readouterr().out


# Where the report cannot be written -------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch):
    write = Path.write_text

    def full(path, text):
        if "report" not in path.name:
            return write(path, text)
        path.open("w").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)


def test_a_report_that_the_disk_does_not_take_is_printed_and_half_a_one_does_not_stay(
    tmp_path, capsys, full_disk
):
    report = run_policy(RealRobot(tmp_path), infer, config(tmp_path, record=False))
    assert ended_well(report)
    assert list((tmp_path / "run").iterdir()) == []
    said = capsys.readouterr().out
    assert "robot stopped   yes" in said
    assert "report.json could not be written: [Errno 28] No space left on device" in said


def test_a_refusal_that_the_disk_does_not_take_is_raised_all_the_same(tmp_path, full_disk):
    robot = RealRobot(tmp_path)
    with pytest.raises(ConfigError, match=r"watchdog=0.5 s") as refused:
        run_policy(robot, infer, config(tmp_path, watchdog=0.5, record=False))
    assert "report.json could not be written" in refused.value.__notes__[0]


# Defects ----------------------------------------------------------------------------------------


def defect(_executor, _reading, _now):
    raise ZeroDivisionError("of the loop's own")


def test_after_a_defect_in_the_control_thread_the_report_is_written_before_it_is_raised(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(RecedingHorizon, "decide", defect)
    with pytest.raises(ZeroDivisionError):
        run_policy(RealRobot(tmp_path), infer, config(tmp_path, seconds=20.0))
    report = written(tmp_path)
    assert (report["state"], report["stopped"]) == ("FAULT", True)
    assert report["reason"].startswith("ZeroDivisionError: ")
    assert "robot stopped   yes" in capsys.readouterr().out
    assert (tmp_path / "run" / "flight.rec").exists()


def test_a_defect_before_arming_is_a_refusal_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(RecedingHorizon, "first_look", defect)
    with pytest.raises(ZeroDivisionError):
        run_policy(RealRobot(tmp_path), infer, config(tmp_path))
    assert written(tmp_path)["state"] == "REFUSED"
    assert written(tmp_path)["reason"].startswith("ZeroDivisionError: ")


# The recording ----------------------------------------------------------------------------------


def test_a_run_that_was_refused_before_arming_is_not_in_the_way_of_the_next(tmp_path):
    outside = RealRobot(tmp_path)
    outside.x = np.full(2, 9e4)
    with pytest.raises(OutsideLimits):
        run_policy(outside, infer, config(tmp_path))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.json"]
    assert ended_well(run_policy(RealRobot(tmp_path), infer, config(tmp_path)))
    assert (tmp_path / "run" / "flight.rec").exists()


def test_the_recording_of_a_run_is_never_removed(tmp_path):
    run_policy(RealRobot(tmp_path), infer, config(tmp_path))
    before = (tmp_path / "run" / "flight.rec").read_bytes()
    with pytest.raises(ConfigError, match=r"flight.rec: exists already, .* give another output"):
        run_policy(RealRobot(tmp_path), infer, config(tmp_path))
    assert (tmp_path / "run" / "flight.rec").read_bytes() == before
    assert written(tmp_path)["state"] == "STOPPED"

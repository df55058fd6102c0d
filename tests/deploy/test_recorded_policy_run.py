"""What `run_policy` keeps: whether it was a dry run, how the task went, and what is missing."""

import sys
from pathlib import Path

import pytest

from dipole.deploy import LoopConfig, RealClock
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.run import RunConfig, run_policy
from dipole.deploy.recording import recorder
from dipole.deploy.recording.file_format import read_recording

sys.path.insert(0, str(Path(__file__).parent / "support"))
from disks import Disk, full
from virtual_robot import SPEC_OF_X, VirtualRobot, counting


class Pusher(VirtualRobot):
    def result(self):
        return {"success": 0.75}


def policy_run(output, dry_run=False):
    loop = LoopConfig(max_observation_age=2.0, call_timeout=2.0)
    config = RunConfig(loop, 0.5, "now", dry_run, None, output)
    return run_policy(Pusher(RealClock()), lambda: ThreadInference(SPEC_OF_X, counting()), config)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_recording_says_whether_it_was_a_dry_run_and_how_the_task_went(tmp_path, dry_run):
    report = policy_run(tmp_path, dry_run)
    stopped = "not asked to: a dry run" if dry_run else "yes, its stop() returned"
    assert f"robot stopped   {stopped}" in str(report)
    records = list(read_recording(tmp_path / "flight.rec"))
    assert records[0].values["dry_run"] is dry_run
    assert records[-2].values == {"success": 0.75}
    assert records[-1].kind == "end"


def test_the_report_says_what_is_missing_in_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(
        recorder, "open_new", lambda path: Disk(path, lambda n: full() if n in (4, 5) else None)
    )
    report = policy_run(tmp_path)
    (note,) = [note for note in report.notes if "flight.rec" in note]
    assert "2 records are missing" in note
    assert note in str(report)

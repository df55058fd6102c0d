"""`dipole deploy`: a checkpoint moves the simulated robot, and only when it may."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy" / "support"))
from deploying import deploy
from enough import LONG, end_long_runs_after
from tiny_checkpoint import save_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.mark.slow
def test_a_checkpoint_moves_the_simulated_robot_and_the_report_says_how(
    checkpoint, tmp_path, capsys, monkeypatch
):
    end_long_runs_after(monkeypatch, 10)
    words = ["arm=now", f"seconds={LONG}", "deploy.max_limited=null", "deploy.max_approach=null"]
    assert deploy(checkpoint, tmp_path, *words) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["state"] == "STOPPED"
    assert report["stopped"] is True
    assert report["counts"]["actions"] > 9
    assert report["inference_ms"]["count"] >= 1
    assert 0 <= report["task"]["max_reward"] <= 1
    for word in ("ARMED: armed", "robot stopped   yes", "lateness_ms", "observation_age_ms"):
        assert word in said


@pytest.mark.slow
def test_a_dry_run_moves_nothing(checkpoint, tmp_path, capsys):
    words = [
        "dry_run=true",
        "seconds=1",
        "inference=thread",
        "deploy.max_limited=null",
        "deploy.max_approach=null",
    ]
    assert deploy(checkpoint, tmp_path, *words) == 0
    said = capsys.readouterr().out
    assert "dry run: would send x " in said
    assert "dry run: would stop" in said


@pytest.mark.slow
def test_nothing_moves_where_nobody_arms_it(checkpoint, tmp_path, capsys):
    assert deploy(checkpoint, tmp_path, "inference=thread") == 1
    assert "nobody is here to arm the robot" in capsys.readouterr().err
    assert json.loads((tmp_path / "report.json").read_text())["state"] == "REFUSED"


@pytest.mark.slow
def test_a_difference_that_is_accepted_stands_in_the_report(tmp_path):
    save_tiny(tmp_path / "tiny", fps=20, units="mm", names=["y", "x"])
    words = [
        "inference=thread",
        "dry_run=true",
        "seconds=1",
        "deploy.max_limited=null",
        "deploy.max_approach=null",
    ]
    words += ["deploy.policy_hz=10", "deploy.accept_mismatch=[rate,units,names]"]
    assert deploy(tmp_path / "tiny", tmp_path / "out", *words) == 0
    notes = json.loads((tmp_path / "out/report.json").read_text())["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "accepted by deploy.accept_mismatch=[rate]",
        "accepted by deploy.accept_mismatch=[units,names]",
    ]


@pytest.mark.heavy
@pytest.mark.slow
def test_a_served_checkpoint_moves_the_simulated_robot(checkpoint, tmp_path, capsys, monkeypatch):
    """Two processes: `dipole serve` with torch, and the loop here, which asks it for chunks."""
    end_long_runs_after(monkeypatch, 20)
    words = ["port=0", "device=cpu", "solver=ddim", "solver.steps=2", "token=a token for the test"]
    command = [sys.executable, "-m", "dipole.apps.main", "serve", f"checkpoint={checkpoint}"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline()
            address = re.match(r"serving on (ws://127.0.0.1:\d+), with a token", line)[1]
            remote = [f"server={address}", "token=a token for the test"]
            slow = ["deploy.max_action_lateness=5", "deploy.inference_timeout=10"]
            ours = [
                "arm=now",
                "deploy=rtc",
                "deploy.max_limited=null",
                "deploy.max_approach=null",
                f"seconds={LONG}",
                *slow,
                *remote,
            ]
            assert deploy(None, tmp_path, *ours) == 0
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()
    assert f"server {address}: reconnected 0 times, round trip p50 " in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["actions"] > 19, report
    assert report["counts"]["chunks_accepted"] >= 1
    assert "chunks_refused" not in report["counts"]  # what is known of a chunk goes along

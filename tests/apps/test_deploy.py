"""`dipole deploy`: a checkpoint moves the simulated robot, and only when it may."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dipole.apps.main import main

sys.path.insert(0, str(Path(__file__).parent))
from tiny_checkpoint import save_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("runs") / "tiny")


def deploy(checkpoint, output, *words):
    solver = [] if checkpoint is None else ["solver=ddim", "solver.steps=2", "device=cpu"]
    # A shared machine may be slow: what is tested here is not its speed.
    patience = ["deploy.call_timeout=2", "deploy.max_observation_age=2", "watchdog=5"]
    policy = f"checkpoint={'null' if checkpoint is None else checkpoint}"
    settings = [policy, f"output={output}"]
    return main(["deploy", *settings, *solver, *patience, *words])


@pytest.mark.slow
def test_a_checkpoint_moves_the_simulated_robot_and_the_report_says_how(
    checkpoint, tmp_path, capsys
):
    words = ["arm=now", "seconds=2", "deploy.max_limited=null", "deploy.max_approach=null"]
    assert deploy(checkpoint, tmp_path, *words) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["state"] == "STOPPED"
    assert report["stopped"] is True
    assert report["counts"]["actions"] > 3
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


def test_a_robot_without_limits_is_refused_before_anything_starts(tmp_path, capsys):
    assert deploy("nowhere", tmp_path, "robot.limits.velocity=null") == 2
    assert "limits.velocity is not set. A robot is not moved" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_that_is_not_there_is_named(tmp_path, capsys):
    assert deploy(tmp_path / "nowhere", tmp_path, "arm=now") == 1
    assert "nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["arm=maybe"], "arm=maybe: ask, or now"),
        (["dry_run="], "dry_run=''; it must be true or false"),
        (["dry_run=null"], "dry_run=None; it must be true or false"),
        (["record=maybe"], "record='maybe'; it must be true or false"),
        (["deploy.control_hz=95", "inference=thread"], "not a whole multiple"),
        (["deploy.merger=swich", "inference=thread"], "did you mean 'switch'"),
        (["module=nowhere.py"], "there is no such file"),
        (["module=3"], "module=3; it must be a text, or null"),
        (["server=8000"], "server=8000; it must be a text, or null"),
        (["robot.options.noise=-1"], "cannot be negative"),
        (["inference=cloud"], "inference=cloud: process, or thread"),
        (["server=ws://127.0.0.1:1"], "either checkpoint=RUN, to compute here, or server="),
        (["runtime=fast", "inference=thread"], "unknown runtime 'fast'"),
    ],
)
def test_settings_that_cannot_work_are_answered(checkpoint, tmp_path, capsys, words, message):
    assert deploy(checkpoint, tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["state"] == "REFUSED"
    assert message in report["reason"]


@pytest.mark.parametrize(("output", "shown"), [("null", "None"), ("", "''"), ("3", "3")])
def test_an_output_that_is_no_folder_is_refused(capsys, output, shown):
    assert deploy("nowhere", output) == 2
    assert f"output={shown}; it must be a folder's path" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    [
        "guidance_scale=2", "part=left", "weights=raw", "runtime=eager", "device=cpu", "threads=2",
        "seed=7", "inference=thread", "solver=ddim", "solver.steps=3",
    ],
)  # fmt: skip
def test_what_the_server_decides_is_not_left_unheard(tmp_path, capsys, setting):
    assert deploy(None, tmp_path, "server=ws://127.0.0.1:1", setting) == 2
    name = setting.partition("=")[0]
    assert f"{name}: the server at ws://127.0.0.1:1 draws" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    ["client.start_timeout=3", "openpi.prompt=fold", "openpi.n_action_steps=4", "token=x"],
)
def test_what_only_a_connection_has_is_refused_where_the_policy_computes_here(
    checkpoint, tmp_path, capsys, setting
):
    assert deploy(checkpoint, tmp_path, setting) == 2
    name = setting.partition("=")[0]
    assert f"{name}: of the connection to a server" in capsys.readouterr().err


def test_several_settings_that_do_nothing_are_named_at_once(tmp_path, capsys):
    assert deploy(None, tmp_path, "server=ws://127.0.0.1:1", "seed=7", "device=cpu") == 2
    assert "seed, device: the server at" in capsys.readouterr().err


def test_a_policy_of_another_robot_is_refused_before_anything_moves(tmp_path, capsys):
    save_tiny(tmp_path / "tiny", fps=50, units="mm", names=["y", "x"])
    words = ["inference=thread", "arm=now"]
    assert deploy(tmp_path / "tiny", tmp_path / "out", *words) == 2
    said = capsys.readouterr()
    assert "actions at 50 Hz (demonstrations: 50 Hz), commands at 100 Hz" in said.out
    both = "the policy was trained on (y, x) in mm; the robot has (x, y) in px"
    assert f"the action has other units and another order: {both}" in said.err
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["state"] == "REFUSED"
    assert both in report["reason"]
    assert deploy(tmp_path / "tiny", tmp_path / "again", *words, "deploy.policy_hz=10") == 2
    assert (
        "policy_hz = 10, but the policy was trained on demonstrations of 50 frames a second"
        in (json.loads((tmp_path / "again/report.json").read_text())["reason"])
    )


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


@pytest.mark.slow
def test_a_served_checkpoint_moves_the_simulated_robot(checkpoint, tmp_path, capsys):
    """Two processes: `dipole serve` with torch, and the loop here, which asks it for chunks."""
    words = ["port=0", "device=cpu", "solver=ddim", "solver.steps=2", "token=a token for the test"]
    command = [sys.executable, "-m", "dipole.apps.main", "serve", f"checkpoint={checkpoint}"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) as server:
        line = server.stdout.readline()
        address = re.match(r"serving on (ws://127.0.0.1:\d+), with a token", line)[1]
        remote = [f"server={address}", "token=a token for the test"]
        slow = ["deploy.max_action_lateness=5", "deploy.inference_timeout=10", "seconds=5"]
        ours = [
            "arm=now",
            "deploy=rtc",
            "deploy.max_limited=null",
            "deploy.max_approach=null",
            *slow,
            *remote,
        ]
        assert deploy(None, tmp_path, *ours) == 0
        server.terminate()
        assert server.wait(20) == 0
    assert f"server {address}: reconnected 0 times, round trip p50 " in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["actions"] > 3, report
    assert report["counts"]["chunks_accepted"] >= 1
    assert "chunks_refused" not in report["counts"]  # what is known of a chunk goes along


def test_every_choice_of_the_loop_is_a_configuration_of_it():
    from dipole.apps.compose import compose
    from dipole.deploy import LoopConfig

    names = {"default": "switch", "cross_fade": "cross_fade", "ensemble": "ensemble", "rtc": "rtc"}
    for choice, merger in names.items():
        config = compose("deploy", ["checkpoint=x", f"deploy={choice}"])
        assert LoopConfig.from_dict(config["deploy"]).merger == merger
    assert LoopConfig.from_dict(compose("deploy", ["checkpoint=x"])["deploy"]) == LoopConfig()


@pytest.mark.slow
def test_evaluation_charges_a_delay(checkpoint, tmp_path):
    words = ["environment=pusht", "episodes=1", "delay=3", "merger=cross_fade", "device=cpu"]
    words += ["+merger_options.steps=2"]
    settings = [f"checkpoint={checkpoint}", f"output={tmp_path}", "solver=ddim", "solver.steps=2"]
    assert main(["evaluate", *settings, *words]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["delay"], metrics["merger"]) == (3, "cross_fade")
    assert metrics["merger_options"] == {"steps": 2}
    assert metrics["seam_jump"] > 0
    assert main(["evaluate", *settings, "environment=pusht", "delay=-1"]) == 2

"""`dipole deploy`: what is refused before anything moves, and what the command is made of."""

import json
import sys
from pathlib import Path

import pytest

from dipole.apps.main import main

sys.path.insert(0, str(Path(__file__).parent))
from deploying import deploy
from tiny_checkpoint import save_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("runs") / "tiny")


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

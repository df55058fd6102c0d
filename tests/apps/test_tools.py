"""File tools: options that are refused rather than overlooked, and a shell's completion."""

import os
import subprocess
import sys

import pytest

from dipole.apps.commands.data import convert as command
from dipole.apps.main import main
from dipole.apps.terminal.completion import joined_at_equals, settings_beginning
from dipole.data.sources.words import ConversionRequest


@pytest.fixture
def requested(monkeypatch):
    """What `dipole data convert` would do."""
    made = []
    monkeypatch.setattr(command, "_convert", lambda request, to: made.append((request, to)) or 0)
    return made


def test_every_option_of_a_conversion_reaches_the_request(requested):
    words = (
        "a b.zarr --keys state,action --episodes 0-2,5 --group train,valid --images jpeg "
        "--rename actions=action,obs=state --concatenate action=left,right --dtype action=float32 "
        "--convert action:3-6=quaternion_to_6d --resample 10 "
        "--resize 240x320 --resize front=96x128,wrist=96x96 "
        "--trim idle,keep=0.5 --also c,d --also e "
        "--mirror pusht --fps 30 --environment pusht --to lerobot"
    )
    assert main(["data", "convert", *words.split(), "--task", "push it"]) == 0
    ((request, to),) = requested
    assert request == ConversionRequest(
        source="a",
        destination=request.destination,
        also=("c", "d", "e"),
        fps=30.0,
        environment="pusht",
        task="push it",
        rename={"actions": "action", "obs": "state"},
        concatenate={"action": ("left", "right")},
        dtype={"action": "float32"},
        keys=("state", "action"),
        episodes=(0, 1, 2, 5),
        group=("train", "valid"),
        mirror="pusht",
        resample=10.0,
        resize=("240x320", "front=96x128", "wrist=96x96"),
        trim="idle,keep=0.5",
        convert=("action:3-6=quaternion_to_6d",),
        images="jpeg",
    )
    assert (str(request.destination), to.value) == ("b.zarr", "lerobot")


def test_settings_as_the_first_edition_wrote_them_are_taken_with_a_note(requested, capsys):
    words = "a b.zarr keys=state,action episodes=0-2 also=c,d"
    assert main(["data", "convert", *words.split()]) == 0
    ((request, _),) = requested
    assert (request.keys, request.episodes) == (("state", "action"), (0, 1, 2))
    assert request.also == ("c", "d")
    assert "'keys=state,action' is taken as --keys state,action" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("convert a b key=state,action", "'key=state,action' is written with dashes: --keys"),
        ("convert a b episode=0-3", "--episodes 0-3"),
        ("view a sizes=3", "'sizes=3' is written with dashes: --size 3"),
        ("convert a b --keys x --keys y", "--keys is given 2 times"),
        ("convert a b --rename x=y,x=z", "--rename: x is given twice"),
        ("convert a b --also c --also c", "c is given 2 times"),
        ("convert a b --rename xy", "--rename xy: NAME=VALUE is needed"),
        ("convert a b --episodes 7-3", "7-3 runs backwards and selects nothing; write 3-7"),
        ("convert a b --fps 0", "--fps 0: a positive number is needed"),
        ("convert a b --trim ends", "--trim 'ends': idle, or idle:all"),
        ("convert a b --convert action", "--convert 'action': KEY:COLUMNS=TRANSFORM"),
        ("convert a b --images png", "'png' is not one of"),
        ("convert a b --images jpg", "did you mean 'jpeg'?"),
        ("convert a b --fps x", "invalid value for '--fps': a number is needed"),
        ("convert source=a b", "'source=a' is written without source=: a"),
        ("info path=a", "'path=a' is written without path=: a"),
        ("convert a b --keyz x", "no option '--keyz', did you mean '--keys'?"),
        ("convert a", "missing argument 'DESTINATION'"),
        ("convert a b c", "c"),
        ("info", "missing argument 'PATH'"),
        ("inspect x", "inspect"),
        ("view a --size big", "--size"),
    ],
)
def test_what_is_mistyped_exits_with_2_and_says_how_it_is_written(words, said, requested, capsys):
    assert main(["data", *words.split()]) == 2
    assert requested == []
    error = capsys.readouterr().err
    assert error.startswith("dipole data: ")
    assert said in error


def test_a_pair_may_be_named_like_an_option(requested):
    assert main(["data", "convert", "a", "b", "--rename", "episodes=ids"]) == 0
    assert requested[0][0].rename == {"episodes": "ids"}


@pytest.mark.parametrize("words", [["data"], ["data", "convert", "--help"], ["replay", "-h"]])
def test_help_lists_the_options(words, capsys):
    assert main(words) == (2 if words == ["data"] else 0)
    assert "Options:" in capsys.readouterr().out


def test_an_interrupt_of_a_tool_exits_with_130(monkeypatch):
    def interrupted(request, to):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_convert", interrupted)
    assert main(["data", "convert", "a", "b"]) == 130


def completions(words, place=None):
    """What bash is told after these words."""
    asked = {
        "_DIPOLE_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1 if place is None else place),
    }
    command = [
        sys.executable,
        "-c",
        "import sys; from dipole.apps.main import main; sys.exit(main())",
    ]
    done = subprocess.run(
        command, env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_shell_completes_commands_options_and_choices():
    assert completions(["dipole", "ev"]) == ["evaluate"]
    assert completions(["dipole", "data", "convert", "--im"]) == ["--images"]
    assert completions(["dipole", "data", "convert", "a", "b", "--to", "l"]) == ["lerobot"]
    assert completions(["dipole", "train", "policy", "=", "unet_s"]) == ["unet_small"]


def test_settings_and_choices_of_composed_commands_are_completed():
    assert settings_beginning("train", "train.keep") == ["train.keep_checkpoints="]
    assert settings_beginning("train", "policy=unet_s") == ["policy=unet_small"]
    assert settings_beginning("train", "train.betas") == ["train.betas="]
    assert settings_beginning("evaluate", "xyz") == []


def test_bash_splits_at_equals_signs():
    assert joined_at_equals(["dipole", "train", "a", "=", "b", "c"], 5) == (
        ["dipole", "train", "a=b", "c"],
        3,
    )
    assert joined_at_equals(["dipole", "train", "policy", "="], 3) == (
        ["dipole", "train", "policy="],
        2,
    )


def test_completion_is_installed_for_the_whole_command(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    code = "import sys; from dipole.apps.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--install-completion", "bash"]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    installed = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "_DIPOLE_COMPLETE=complete_bash" in installed

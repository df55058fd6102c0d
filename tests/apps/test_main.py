"""The `dipole` command: help at once, errors without a traceback, exit codes."""

import os
import subprocess
import sys
import types

import pytest

from dipole.apps import main as command
from dipole.apps.terminal.errors import UsageError
from dipole.data.core.errors import ConfigError, DataError


def give(monkeypatch, behaviour):
    """Let `dipole train` do this instead."""
    module = types.ModuleType("dipole.apps.commands.train")
    module.main = behaviour
    monkeypatch.setitem(sys.modules, "dipole.apps.commands.train", module)


def raising(error):
    def behaviour(argv):
        raise error

    return behaviour


def test_help_names_every_command(capsys):
    assert command.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("train", "evaluate", "record", "data", "doctor"):
        assert f"\n  {name} " in shown


def test_no_command_prints_the_help_and_fails(capsys):
    assert command.main([]) == 2
    assert "usage: dipole COMMAND" in capsys.readouterr().out


def test_help_imports_neither_torch_nor_hydra():
    code = (
        "import sys; from dipole.apps.main import main; main(['--help']); "
        "sys.exit(sorted({'torch', 'hydra', 'numpy', 'zarr'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dipole 0.")


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("eval", "evaluate")])
def test_an_unknown_command_names_the_nearest(typed, meant, capsys):
    assert command.main([typed]) == 2
    assert capsys.readouterr().err == (
        f"dipole: unknown command {typed!r}; did you mean {meant!r}?\n"
    )


def test_a_command_like_no_other_lists_them_all(capsys):
    assert command.main(["xyzzy"]) == 2
    assert f"commands: {', '.join(command.COMMANDS)}" in capsys.readouterr().err


def test_the_command_gets_its_arguments_and_gives_the_exit_code(monkeypatch):
    give(monkeypatch, lambda argv: 7 if argv == ["a=1", "-m"] else 8)
    assert command.main(["train", "a=1", "-m"]) == 7


def test_an_unknown_option_names_the_nearest(capsys):
    assert command.main(["--hlep"]) == 2
    assert capsys.readouterr().err == "dipole: unknown option '--hlep'; did you mean '--help'?\n"


def test_help_before_a_command_is_that_command_s(monkeypatch):
    give(monkeypatch, lambda argv: 7 if argv == ["--help", "train.steps"] else 8)
    assert command.main(["help", "train", "train.steps"]) == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("x.zarr is damaged"), 1),
        (UsageError("x.zarr is damaged"), 2),
        (ConfigError("x.zarr is damaged"), 2),
    ],
)
def test_errors_for_a_person_are_one_line_without_a_traceback(error, code, monkeypatch, capsys):
    give(monkeypatch, raising(error))
    assert command.main(["train"]) == code
    assert capsys.readouterr().err == "dipole train: x.zarr is damaged\n"


def test_a_missing_library_points_to_the_doctor(monkeypatch, capsys):
    give(monkeypatch, raising(ModuleNotFoundError("No module named 'torch'", name="torch")))
    assert command.main(["train"]) == 1
    shown = capsys.readouterr().err
    assert shown == "dipole train: torch is not installed; `dipole doctor` says what adds it\n"


def test_a_missing_module_of_ours_keeps_its_traceback(monkeypatch):
    error = ModuleNotFoundError("No module named 'dipole.x'", name="dipole.x")
    give(monkeypatch, raising(error))
    with pytest.raises(ModuleNotFoundError):
        command.main(["train"])


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    give(monkeypatch, raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        command.main(["train"])


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    give(monkeypatch, raising(KeyboardInterrupt()))
    assert command.main(["train"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error():
    """As in `dipole --help | true`: whoever read has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "dipole.apps.main", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    command.main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    command.main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_composed_commands_decide_how_threads_wait_by_their_configuration(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    give(monkeypatch, lambda argv: 0)
    command.main(["train"])
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize(
    "words", [["train", "trian.steps=1"], ["data", "--colour"], ["doctor", "x"]]
)
def test_a_mistyped_command_line_exits_with_2_whoever_reads_it(words, capsys):
    assert command.main(words) == 2
    assert capsys.readouterr().err.startswith(f"dipole {words[0]}: ")


@pytest.mark.parametrize(
    "words",
    [
        ["record", "task=pusht_state", "output=s3://bucket/a.zarr"],
        ["evaluate", "checkpoint=run", "output=gs://bucket/evaluation"],
        ["evaluate", "checkpoint=run", "keep_episodes=s3://bucket/a.zarr"],
        ["train", "task=pusht_state", "output=s3://bucket/run"],
    ],
)
def test_what_is_written_to_the_disk_has_no_place_in_object_storage(
    words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert f"{words[-1]} names no folder" in said
    assert "dipole data convert DATASET s3://BUCKET/NAME" in said
    assert not list(tmp_path.iterdir())

"""`dipole serve`: what is refused before anything is loaded."""

import pytest

from dipole.apps.compose import compose
from dipole.apps.main import main
from dipole.deploy.server.config import ServerConfig

SECRET = "asecretofsomelength"


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("DIPOLE_TOKEN", raising=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["host=0.0.0.0"], "there is no token"),
        (["token=short"], "at least 16 are needed"),
        (["server.max_clients=0"], "max_clients is 0"),
        (["port=70000"], "port is 70000"),
        (["watch=true"], "watch is True; it must be a number"),
        (["watch=soon"], "watch is 'soon'; it must be a number"),
        (["forget_after=null"], "forget_after is None; it must be a number"),
        (["batch.size=true"], "batch.size is True"),
        ([], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_served_is_answered(words, message, tmp_path, capsys):
    code = 2 if words else 1  # of a setting; of a checkpoint that cannot be read
    assert main(["serve", f"checkpoint={tmp_path / 'nowhere'}", *words]) == code
    assert message in capsys.readouterr().err


def test_a_token_that_is_read_as_a_number_is_not_shown(capsys):
    assert main(["serve", "checkpoint=x", "token=1234567890123456789"]) == 2
    said = capsys.readouterr().err
    assert "the token is no text" in said
    assert "123456" not in said


def test_the_token_comes_from_the_environment(monkeypatch):
    assert compose("serve", ["checkpoint=x"])["token"] is None
    monkeypatch.setenv("DIPOLE_TOKEN", "a secret of some length")
    assert compose("serve", ["checkpoint=x"])["token"] == "a secret of some length"


def test_the_configuration_is_the_servers_own():
    config = compose("serve", ["checkpoint=x"])
    named = {name: config[name] for name in ("host", "port", "token")}
    assert ServerConfig(**config["server"], **named) == ServerConfig()


@pytest.mark.parametrize("option", ["--cfg", "--help"])
@pytest.mark.parametrize("command", ["serve", "deploy"])
@pytest.mark.parametrize("where", ["environment", "command line"])
def test_no_option_prints_the_token(monkeypatch, capsys, where, command, option):
    words = [f"token={SECRET}"] if where == "command line" else []
    monkeypatch.setenv("DIPOLE_TOKEN", SECRET)
    assert main([command, "checkpoint=x", *words, option]) == 0
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert "***" in said.out or "token=${oc.env:DIPOLE_TOKEN,null}" in said.out


def test_what_names_settings_hides_the_token(tmp_path, capsys):
    words = [f"token={SECRET}", "checkpoint=x"]
    assert main(["deploy", *words, "seed=0,1", f"output={tmp_path}", "--multirun"]) == 2
    assert main(["deploy", *words, "--cfg"]) == 0
    assert main(["serve", *words, "--help"]) == 0
    assert main(["serve", *words, "--help", "token"]) == 0
    said = capsys.readouterr()
    assert "one job at a time" in said.err
    assert "token=***" in said.out
    assert SECRET not in said.out + said.err


def test_serving_is_one_job(capsys):
    assert main(["serve", "checkpoint=x", "port=1,2", "--multirun"]) == 2
    assert "one job at a time" in capsys.readouterr().err

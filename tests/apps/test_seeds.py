"""Seeds that a simulator does not take, or no dataset holds, are refused before anything runs."""

import sys
from pathlib import Path

import pytest

from dipole.apps.main import main
from dipole.data.core.errors import ConfigError
from dipole.deploy.evaluation import checkpoint
from dipole.envs import EnvSpec
from dipole.envs.registry import check_seeds
from dipole.envs.training_score import training_score

sys.path.insert(0, str(Path(__file__).parent))
from tiny_checkpoint import save_tiny


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("seed=18446744073709551615", "seed is 18446744073709551615: for episodes=50"),
        ("seed=9223372036854775807 episodes=2", "it is at most 9223372036854775806"),
        ("seed=4294967295 episodes=2", "of 'aloha/insertion' it is at most 4294967294"),
    ],
)
def test_an_evaluation_s_are_bounded(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "load_runnable", lambda *_, **__: pytest.fail("it was loaded"))
    run = save_tiny(tmp_path / "run")
    environment = "environment=aloha/insertion" if "aloha" in said else "environment=pusht"
    output = f"output={tmp_path / 'found'}"
    assert main(["evaluate", f"checkpoint={run}", environment, output, *words.split()]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("seed=9223372036854775807", "seed is 9223372036854775807: for episodes=200 of 'pusht'"),
        ("task=aloha/insertion seed=4294967296", "seed is 4294967296: for episodes=200 of 'aloha"),
    ],
)
def test_a_recording_s_are_bounded(words, said, tmp_path, capsys):
    output = tmp_path / "demos.zarr"
    assert main(["record", f"output={output}", *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert not output.exists()


def test_those_that_score_a_training_are_bounded_before_it():
    task = {"name": "mine", "environment": {"name": "aloha/insertion"}}
    run = {"task": task, "train": {"evaluate_every": 1}, "evaluate": {"seed": 4294967290}}
    with pytest.raises(ConfigError, match=r"evaluate\.seed is 4294967290: for episodes=50"):
        training_score(run)


def test_the_largest_is_taken():
    check_seeds(EnvSpec("aloha/insertion"), 2**32 - 2, 2)
    check_seeds(EnvSpec("gym:Pendulum-v1"), 2**63 - 2, 2)
    check_seeds(None, 2**63 - 1, 1)
    with pytest.raises(ConfigError, match="seed is"):
        check_seeds(EnvSpec("gym:Pendulum-v1"), 2**63, 1)

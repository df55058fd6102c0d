"""`dipole record`: settings, an expert to a dataset, a hand to a dataset."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from dipole.apps.commands.record import RecordConfig, frame_rate, record
from dipole.apps.compose import compose
from dipole.apps.main import main
from dipole.data import EpisodeStore
from dipole.data.core.errors import ConfigError
from dipole.envs.registry import ENVIRONMENTS, Environment


def test_the_file_s_values_are_the_settings_own():
    config = compose("record", ["output=x.zip"])
    for field in dataclasses.fields(RecordConfig):
        if field.name != "output":
            assert config[field.name] == field.default, field.name


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["outptu=x"], 2, "did you mean 'output'"),
        (["episodes=1"], 2, "output is not set: dipole record output=VALUE"),
        (["output=x", "seed=1", "seed=2"], 2, "seed is given twice"),
        (["output"], 2, "output=VALUE"),
        (["episodes=ten", "output=x"], 2, "episodes is 'ten': a whole number or null"),
        (["mouse=perhaps", "output=x"], 2, "true or false is needed"),
        (["episodes=0", "output=x"], 2, "at least 1"),
        (["shoves=2", "output=x"], 2, "between 0 and 1"),
        (["takeover_steps=30", "output=x"], 2, "give takeover=RUN"),
        (["takeover=run", "takeover_steps=0", "output=x"], 2, "at least 1"),
        (["expert=pusht", "mouse=true", "output=x"], 2, "choose who acts"),
        (["task=pusht_stat", "output=x"], 2, "did you mean 'pusht_state'"),
        (["expert=push", "output=x"], 2, "did you mean 'pusht'"),
        (["task.environment=null", "output=x"], 2, "has no simulator to record in"),
    ],
)
def test_what_cannot_be_recorded_is_answered(words, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["record", *words]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_expert_s_dataset_is_the_same_for_any_number_of_workers(tmp_path, workers, capsys):
    pytest.importorskip("gym_pusht")
    from dipole.envs.experts.demonstrate import demonstrate
    from dipole.envs.pusht.family import DISTURBANCE

    path = tmp_path / "expert.zarr.zip"
    words = ["expert=pusht", "episodes=2", "seed=1000003", f"workers={workers}", f"output={path}"]
    assert main(["record", *words]) == 0
    assert "2 episodes" in capsys.readouterr().out
    store = EpisodeStore.open(path)
    expected = [demonstrate("pusht", seed, DISTURBANCE) for seed in (1000003, 1000004)]
    assert store.fps == 10.0
    assert store.episode_ends.tolist() == np.cumsum([len(e) for e in expected]).tolist()
    for key in ("state", "action", "executed_action"):
        np.testing.assert_array_equal(
            store[key][:], np.concatenate([e.frames[key] for e in expected])
        )


def test_the_frame_rate_is_the_environment_s_own(monkeypatch):
    class Fast(gymnasium.Env):
        metadata = {"render_fps": 25}  # noqa: RUF012

    class Silent(gymnasium.Env):
        metadata = {}  # noqa: RUF012

    monkeypatch.setattr(ENVIRONMENTS, "_table", dict(ENVIRONMENTS._table))
    ENVIRONMENTS.add("fast")(Environment(Fast, "numpy", ""))
    ENVIRONMENTS.add("silent")(Environment(Silent, "numpy", ""))
    assert frame_rate("fast") == 25.0
    with pytest.raises(ConfigError, match="'silent' does not say how fast it is: give fps=N"):
        frame_rate("silent")


def test_an_existing_dataset_is_not_overwritten(tmp_path, capsys):
    path = tmp_path / "mine"
    path.mkdir()
    assert main(["record", "expert=pusht", "episodes=1", f"output={path}"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_plain_configuration_is_enough(tmp_path):
    pytest.importorskip("gym_pusht")
    config = compose("record", ["episodes=1", "seed=1000003", f"output={tmp_path / 'one.zarr'}"])
    assert record(config) == 0
    assert EpisodeStore.open(tmp_path / "one.zarr").n_episodes == 1

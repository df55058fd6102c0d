"""`dipole record`: words to settings, an expert to a dataset, a hand to a dataset."""

import numpy as np
import pytest

from dipole.apps.errors import UsageError
from dipole.apps.record import main, parse
from dipole.data import EpisodeStore
from dipole.data.core.errors import ConfigError, DataError


def test_words_become_settings():
    settings = parse(["task=pusht_state", "expert=pusht", "episodes=7", "seed=3", "output=x.zip"])
    assert (settings.expert, settings.episodes, settings.seed) == ("pusht", 7, 3)
    assert parse(["mouse=true", "output=x"]).mouse is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["outptu=x"], "did you mean 'output'"),
        (["episodes=ten", "output=x"], "a whole number"),
        (["mouse=perhaps", "output=x"], "true or false"),
        (["episodes=0", "output=x"], "at least 1"),
        (["shoves=2", "output=x"], "between 0 and 1"),
        (["output"], "key=value"),
        (["seed=1", "seed=2", "output=x"], "twice"),
        (["takeover_steps=30", "output=x"], "give takeover=RUN"),
        (["takeover=run", "takeover_steps=0", "output=x"], "at least 1"),
        (["episodes=1"], "output=PATH"),
        (["expert=pusht", "mouse=true", "output=x"], "choose who acts"),
    ],
)
def test_a_word_that_cannot_be_read_is_answered(words, said):
    with pytest.raises(UsageError, match=said):
        parse(words)


def test_an_unknown_task_or_expert_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'pusht_state'"):
        main(["task=pusht_stat", f"output={tmp_path / 'x'}"])
    with pytest.raises(ConfigError, match="did you mean 'pusht'"):
        main(["expert=push", f"output={tmp_path / 'x'}"])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_expert_s_dataset_is_the_same_for_any_number_of_workers(tmp_path, workers, capsys):
    pytest.importorskip("gym_pusht")
    from dipole.envs.experts.demonstrate import demonstrate
    from dipole.envs.experts.disturbance import DisturbanceSpec

    path = tmp_path / "expert.zarr.zip"
    words = ["expert=pusht", "episodes=2", "seed=1000003", f"workers={workers}", f"output={path}"]
    assert main(words) == 0
    assert "2 episodes" in capsys.readouterr().out
    store = EpisodeStore.open(path)
    expected = [demonstrate("pusht", seed, DisturbanceSpec()) for seed in (1000003, 1000004)]
    assert store.fps == 10.0
    assert store.episode_ends.tolist() == np.cumsum([len(e) for e in expected]).tolist()
    for key in ("state", "action"):
        np.testing.assert_array_equal(
            store[key][:], np.concatenate([e.frames[key] for e in expected])
        )


def test_an_existing_dataset_is_not_overwritten(tmp_path):
    path = tmp_path / "mine"
    path.mkdir()
    with pytest.raises(DataError, match="exists already"):
        main(["expert=pusht", "episodes=1", f"output={path}"])

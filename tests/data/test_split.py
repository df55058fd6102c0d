"""The split against the published one."""

import numpy as np
import pytest

from dipole.data import ConfigError, split_episodes


def test_the_published_split_of_the_human_data():
    train, validation = split_episodes(206, val_ratio=0.02, seed=42)
    assert validation.tolist() == [18, 90, 134, 157]
    assert len(train) == 202
    assert sorted([*train, *validation]) == list(range(206))


def test_the_published_runs_keep_90_training_episodes():
    train, validation = split_episodes(206, max_train=90)
    assert train[:10].tolist() == [7, 9, 10, 11, 13, 16, 20, 25, 26, 27]
    assert (len(train), train.sum()) == (90, 9897)
    assert validation.tolist() == [18, 90, 134, 157]


@pytest.mark.parametrize(
    ("n", "ratio", "held_out"),
    [(10, 0.0, 0), (10, 0.01, 1), (1, 0.5, 0), (2, 0.9, 1), (50, 0.1, 5)],
)
def test_someone_is_held_out_and_someone_is_left(n, ratio, held_out):
    train, validation = split_episodes(n, ratio)
    assert (len(train), len(validation)) == (n - held_out, held_out)
    assert not np.intersect1d(train, validation).size


@pytest.mark.parametrize("values", [(0, 0.1), (10, 1.0), (10, -0.1)])
def test_what_cannot_be_split_is_refused(values):
    with pytest.raises(ConfigError):
        split_episodes(*values)


def test_keeping_no_training_episode_is_refused():
    with pytest.raises(ConfigError, match="max_train is 0"):
        split_episodes(10, max_train=0)

"""A simulator whose state is not finite, in recordings: another seed is tried in its place."""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dipole.envs.contract import EnvSpec
from dipole.envs.experts import EXPERTS, Expert
from dipole.envs.experts.demonstrate import DemonstrationSpec, demonstrations
from dipole.envs.experts.keeping import KeepSpec, Tally, kept
from dipole.envs.rollout import RolloutError

sys.path.insert(0, str(Path(__file__).parent))
from test_divergence import FEATURES, HOW, NAME


class Rests:
    def __init__(self, environment):
        self.environment = environment

    def reset(self, seed):
        assert self.environment.unwrapped.seed_now == seed  # it is in the environment that acts

    def act(self, observation):
        array = observation["state"] if isinstance(observation, dict) else observation
        assert np.isfinite(array).all()
        return np.zeros(2)


@pytest.fixture
def rests(monkeypatch):
    monkeypatch.setattr(EXPERTS, "_table", dict(EXPERTS._table))
    EXPERTS.add("rests")(Expert(Rests, NAME, ("state",)))


def spec(at, how="observation", **more):
    return DemonstrationSpec(
        EnvSpec(NAME, options={"at": at, "how": how} | more, success="is_success"),
        None,
        FEATURES,
    )


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("is_array", [False, True])
def test_an_expert_s_episode_is_dropped_and_another_seed_tried(how, is_array, rests):
    tally = Tally()
    diverging = spec({4: 3, 5: 7}, how, is_array=is_array)
    made = kept(demonstrations(diverging, 3), KeepSpec(2, "all"), tally)
    assert [each.seed for each in made] == [3, 6]
    assert tally.describe() == (
        "none failed, none too short, 2 (seeds 4, 5) ended in a state or an action that is not "
        "finite"
    )


def test_an_environment_that_stays_so_is_made_anew_with_its_expert(rests):
    every = demonstrations(spec({3: 2}, stays=True), 3)
    first, second = islice(every, 2)
    assert first.broken.startswith("'state' is not finite: [")
    assert (second.broken, len(second), second.success) == ("", 8, True)


def test_too_many_in_a_row_are_an_error_that_says_why(rests):
    every = demonstrations(spec(dict.fromkeys(range(9), 1)), 0)
    with pytest.raises(RolloutError, match=r"3 demonstrations in a row.*'state' is not finite"):
        [*kept(every, KeepSpec(max_failures=3), Tally())]

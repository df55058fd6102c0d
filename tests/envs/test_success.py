"""What an environment's info may say of success."""

import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.envs import evaluate
from dipole.envs.interface import Interface

sys.path.insert(0, str(Path(__file__).parent))  # worker processes find the module the same way
from fake_policy import FakePolicy
from tiny_simulator import TinySimulator


@pytest.mark.parametrize(
    "told", [True, np.True_, 1, 1.0, [0, 1], np.float32(1), np.array([0.0, 1])]
)
def test_success_is_told_by_true_or_one(told):
    assert Interface().succeeded({"success": told}) is True


@pytest.mark.parametrize("told", [False, np.False_, 0, 0.0, -0.0, [], [0, 0], np.zeros((2, 2))])
def test_failure_is_told_by_false_or_zero(told):
    assert Interface(success="told").succeeded({"told": told}) is False


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("no", "'no', a str"),
        ("", "'', a str"),
        (0.31, "0.31, a float"),
        (-1.0, "-1.0, a float"),
        (2, "2, a int"),
        (np.float64("nan"), "nan"),
        ([0, 0.5], r"\[0, 0.5\], a list"),
        ([[0], [0, 1]], "a list"),
        ([False, None], "a list"),
        ({}, "{}, a dictionary"),
        (
            {"success": False, "distance": 0.3},
            "Did you mean environment.success=success.success or success.dist",
        ),
    ],
)
def test_what_is_neither_true_nor_false_is_no_success(told, said):
    with pytest.raises(ConfigError, match=f"info's 'success' is .*{said}"):
        Interface().succeeded({"success": told})
    with pytest.raises(ConfigError, match=r"info's 'task\.success' is"):
        Interface(success="task.success").succeeded({"task": {"success": told}})


class Tells(TinySimulator):
    """A simulator whose policy always fails. told: what info says."""

    told: ClassVar[dict] = {}

    def _move(self, action):
        reward, *over, info = super()._move(action)
        return reward, *over, {**info, **self.told}


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"is_success": {"a": False}}, "environment.success=is_success.a"),
        ({"successes": {"lifted": "no"}}, "info's 'successes.lifted' is 'no'"),
    ],
)
def test_an_evaluation_of_what_is_no_success_ends_at_once(told, named):
    simulator = type("Told", (Tells,), {"told": told})
    with pytest.raises(ConfigError, match=f"episode 0.*{named}"):
        evaluate(FakePolicy(), simulator, episodes=1)

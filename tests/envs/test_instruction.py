"""What a robot is to do, in words, in a simulator."""

import numpy as np
import pytest

from dipole.data import ConfigError, Feature, Features, decode_text
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface

FEATURES = Features(
    {"pose": Feature((2,)), "instruction": Feature((16,), kind="text")},
    Feature((2,), kind="action"),
)
POSE = np.zeros(2, np.float32)


def seen(observation, instruction=None):
    interface = Interface.of(FEATURES, EnvSpec("mine", instruction=instruction), {})
    return interface, interface.observe(observation)


def test_words_are_the_simulator_s_own_or_else_the_task_s():
    interface, found = seen({"pose": POSE}, "push left")
    assert interface.entries == ("pose",)
    assert found["instruction"].dtype == np.uint8
    assert decode_text(found["instruction"]) == "push left"
    interface, found = seen({"pose": POSE, "instruction": "go back"})
    assert interface.entries == ("pose", "instruction")
    assert decode_text(found["instruction"]) == "go back"
    _, found = seen({"pose": POSE, "instruction": found["instruction"]}, "push left")
    assert decode_text(found["instruction"]) == "go back"


def test_words_that_are_missing_or_too_long_are_refused():
    with pytest.raises(ConfigError, match="no 'instruction'"):
        seen({"pose": POSE})
    with pytest.raises(ConfigError, match=r"shape is \[16\]"):
        seen({"pose": POSE}, "push the block to the left")

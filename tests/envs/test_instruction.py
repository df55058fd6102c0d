"""What a robot is to do, in words, in a simulator."""

import numpy as np
import pytest

from dipole.data import ConfigError, Feature, Features, decode_text
from dipole.data.loading.text import encode_text
from dipole.envs.contract import EnvSpec
from dipole.envs.experts.recorded import WORDS, RecordedKeys
from dipole.envs.interface import Interface

FEATURES = Features(
    {"pose": Feature((2,)), "instruction": Feature((16,), kind="text")},
    Feature((2,), kind="action"),
)
POSE = np.zeros(2, np.float32)


def seen(observation, instruction=None):
    interface = Interface.of(FEATURES, EnvSpec("mine", instruction=instruction), {})
    return interface, interface.observe(observation)


def test_words_are_the_task_s_or_else_the_simulator_s_own():
    interface, found = seen({"pose": POSE}, "push left")
    assert interface.entries == ("pose",)
    assert found["instruction"].dtype == np.uint8
    assert decode_text(found["instruction"]) == "push left"
    interface, found = seen({"pose": POSE, "instruction": "go back"})
    assert interface.entries == ("pose", "instruction")
    assert decode_text(found["instruction"]) == "go back"


@pytest.mark.parametrize("instruction", [None, "grab it"])
@pytest.mark.parametrize("own", ["move the hand", encode_text("move the hand", 16)])
def test_what_is_recorded_is_what_a_policy_is_told(instruction, own):
    spec = EnvSpec("gym:mine:Arm-v0", instruction=instruction)
    simulated = {"pose": POSE, "instruction": own}
    interface = Interface.of(FEATURES, spec, {})
    observed = interface.observe({entry: simulated[entry] for entry in interface.entries})
    for looked_at in ((), ("pose", "instruction")):
        if not isinstance(own, str) and looked_at:
            continue  # an expert that looks at words has them as a string
        recorded = RecordedKeys.of(FEATURES, spec, looked_at).read(simulated)
        assert recorded[WORDS] == decode_text(observed["instruction"])
        assert recorded[WORDS] == (instruction or "move the hand")


def test_words_that_are_missing_or_too_long_are_refused():
    with pytest.raises(ConfigError, match="no 'instruction'"):
        seen({"pose": POSE})
    with pytest.raises(ConfigError, match=r"shape is \[16\]"):
        seen({"pose": POSE}, "push the block to the left")

"""Settings of the control loop that make no sense are refused where they are made."""

import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy import LoopConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sensor_latency": "x"}, "sensor_latency is 'x'; it must be a number"),
        ({"sensor_latency": None}, "sensor_latency is None"),
        ({"sensor_latency": True}, "sensor_latency is True"),
        ({"sensor_latency": float("nan")}, "sensor_latency is nan"),
        ({"sensor_latency": {"camera": "0.06"}}, "sensor_latency is {'camera': '0.06'}"),
        ({"max_missed": None}, "max_missed is None; it must be a whole number"),
        ({"warmup_calls": None}, "warmup_calls is None; it must be a whole number"),
        ({"max_braking": None}, "max_braking is None; it must be a positive number"),
        ({"max_braking": float("inf")}, "max_braking is inf; it must be a positive number"),
        ({"merger_options": "steps"}, "merger_options is 'steps'"),
        ({"merger_options": {4: 1}}, "merger_options is {4: 1}"),
        ({"align_to": ["camera"]}, r"align_to is \['camera'\]; it is an observation's name"),
    ],
)
def test_a_setting_of_another_kind_is_refused_with_its_value(settings, message):
    with pytest.raises(ConfigError, match=message):
        LoopConfig(**settings)


def test_settings_that_may_be_left_out_may_be_null():
    names = ("policy_hz", "control_hz", "n_action_steps", "max_hold", "max_limited", "max_approach")
    config = LoopConfig(**dict.fromkeys(names), align_to=None)
    assert [getattr(config, name) for name in names] == [None] * 6


def test_a_sensor_may_have_no_latency():
    assert LoopConfig(sensor_latency={"camera": 0.06, "joints": 0}).sensor_latency["joints"] == 0

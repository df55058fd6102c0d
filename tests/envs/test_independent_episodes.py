"""An episode is a function of its seed, whatever its simulator did before."""

from copy import deepcopy

import numpy as np
import pytest

from dipole.envs import make_env
from dipole.envs.interface import entries_of

# Where each needs a package, and what else than the usual entries is looked at.
FAMILIES = {
    "fetch/push": ("gymnasium_robotics", ()),
    "fetch/pick-and-place": ("gymnasium_robotics", ()),
    "fetch/slide": ("gymnasium_robotics", ()),
    "fetch/reach": ("gymnasium_robotics", ("external_camera_0",)),
    "maze/medium": ("gymnasium_robotics", ()),
    "adroit/door": ("gymnasium_robotics", ()),
    "adroit/hammer": ("gymnasium_robotics", ()),
    "adroit/pen": ("gymnasium_robotics", ()),
    "adroit/relocate": ("gymnasium_robotics", ()),
    "kitchen/partial": ("gymnasium_robotics", ()),
    "metaworld/pick-place": ("metaworld", ()),
    "metaworld/mt10": ("metaworld", ()),
    "aloha/transfer_cube": ("gym_aloha", ()),
    "aloha/insertion": ("gym_aloha", ("top",)),
    "pusht": ("gym_pusht", ()),
    "fork": ("numpy", ()),
}
STEPS, SEED = 12, 3


def played(environment, seed, steps=STEPS):
    """Everything that an episode of wild actions shows and says."""
    space = environment.action_space
    low, high = np.maximum(space.low, -1), np.minimum(space.high, 1)
    if not (low < high).all():
        low, high = space.low, space.high
    random = np.random.default_rng(seed)
    seen, info = environment.reset(seed=seed)
    shown = [(deepcopy(entries_of(seen)), 0.0, False, False, deepcopy(info))]
    for _ in range(steps):
        action = random.uniform(low, high).astype(np.float32)
        seen, *told = environment.step(action)
        shown.append((deepcopy(entries_of(seen)), *deepcopy(told)))
        if told[1] or told[2]:
            break
    return shown


@pytest.mark.heavy
@pytest.mark.parametrize("name", FAMILIES)
def test_an_episode_is_the_same_in_a_new_simulator_and_in_a_used_one(name):
    package, looked_at = FAMILIES[name]
    pytest.importorskip(package)
    observation = looked_at or None
    new = make_env(name, observation=observation)
    used = make_env(name, observation=observation)
    for other in (1, 8):
        played(used, other, 2 * STEPS)
        np.random.random(5)
    expected, found = played(new, SEED), played(used, SEED)
    np.testing.assert_equal(found, expected)
    first, another = (each[0][0] for each in (expected, played(new, SEED + 1)))
    assert any(not np.array_equal(first[entry], another[entry]) for entry in first)
    assert len(expected) == STEPS + 1 or any(expected[-1][2:4])

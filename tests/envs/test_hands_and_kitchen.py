"""Adroit and the kitchen: the stock simulators' numbers, success as published, Minari's data."""

import gymnasium
import numpy as np
import pytest

from dipole.data import EpisodeStore
from dipole.data.convert import convert
from dipole.data.sources.registry import open_source
from dipole.envs import make_env

pytestmark = pytest.mark.heavy
STOCK = {
    "adroit/door": ("AdroitHandDoor-v1", {}),
    "adroit/hammer": ("AdroitHandHammer-v1", {}),
    "adroit/pen": ("AdroitHandPen-v1", {}),
    "adroit/relocate": ("AdroitHandRelocate-v1", {}),
    "kitchen/mixed": (
        "FrankaKitchen-v1",
        {"tasks_to_complete": ["microwave", "kettle", "bottom burner", "light switch"]},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register_envs(pytest.importorskip("gymnasium_robotics"))


def vector(seen):
    return seen["observation"] if isinstance(seen, dict) else seen


def random_actions(space, count):
    return np.random.default_rng(0).uniform(-1, 1, (count, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("name", STOCK)
def test_it_is_the_stock_environment_to_the_last_bit(name):
    stock_id, options = STOCK[name]
    ours, stock = make_env(name), gymnasium.make(stock_id, disable_env_checker=True, **options)
    for seed in (3, 1):
        seen, wanted = ours.reset(seed=seed)[0], stock.reset(seed=seed)[0]
        for action in random_actions(ours.action_space, 8):
            assert (seen["state"] == vector(wanted)).all()
            ours.render()  # drawing changes nothing that is simulated
            reward, *_ = ours.advance(action)
            seen = ours.observe()
            wanted, wanted_reward, *_ = stock.step(action)
            assert reward == pytest.approx(np.squeeze(wanted_reward), abs=0)


def test_the_kitchen_s_return_is_the_number_of_subtasks_and_each_is_told():
    kitchen = make_env("kitchen/partial")
    kitchen.reset(seed=0)
    still = np.zeros(9, np.float32)
    assert kitchen.advance(still)[0] == 0.0
    kitchen.simulator.data.qpos[22] = -0.75  # the microwave's door
    reward, terminated, _, info = kitchen.advance(still)
    assert (reward, terminated, info["subtasks"]) == (1.0, False, ["microwave"])
    assert kitchen.advance(still)[0] == 0.0  # counted once
    assert not info["is_success"]
    assert info["successes"]["1_of_4"]
    assert not info["successes"]["2_of_4"]
    assert (info["successes"]["microwave"], info["successes"]["kettle"]) == (True, False)
    kitchen.reset(seed=0)
    assert not kitchen.advance(still)[3]["successes"]["1_of_4"]


def test_a_hand_succeeds_in_more_than_20_steps_at_its_goal(monkeypatch):
    hand = make_env("adroit/pen", max_steps=24)
    hand.reset(seed=0)
    reached = iter([True] * 21 + [False] * 3)
    monkeypatch.setattr(
        hand.simulator, "step", lambda action: (None, 0.0, False, False, {"success": next(reached)})
    )
    told = [hand.advance(np.zeros(24))[3] for _ in range(24)]
    assert [info["is_success"] for info in told] == [False] * 20 + [True] * 4
    assert told[0]["successes"] == {"any_step": True, "last_step": False}
    assert told[-1]["successes"] == {"any_step": True, "last_step": False}


@pytest.mark.parametrize("entry", ["scene", "left_cap"])
def test_the_kitchen_has_pictures_and_depth(entry):
    kitchen = make_env("kitchen/relay", observation=(entry, f"{entry}_depth"), image_size=24)
    seen, _ = kitchen.reset(seed=0)
    assert (seen[entry].shape, seen[entry].dtype) == ((24, 24, 3), np.uint8)
    assert seen[entry].std() > 10
    assert seen[f"{entry}_depth"].shape == (24, 24, 1)


def test_a_dataset_that_minari_wrote_has_what_the_task_s_policies_see(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    buffers = pytest.importorskip("minari.data_collector").EpisodeBuffer
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    hand = gymnasium.make("AdroitHandPen-v1", disable_env_checker=True)
    seen = [hand.reset(seed=0)[0]]
    actions = random_actions(hand.action_space, 20)
    seen += [hand.step(action)[0] for action in actions]
    ends = [False] * 20
    episode = buffers(0, 0, None, np.stack(seen), actions, [0.0] * 20, ends, [*ends[1:], True])
    words = ("algorithm_name", "author", "author_email", "code_permalink", "description")
    described = dict.fromkeys(words, "test")
    minari.create_dataset_from_buffers("test/pen-v0", [episode], hand, hand, **described)
    convert(open_source(tmp_path / "test/pen-v0"), tmp_path / "pen.zarr")
    store = EpisodeStore.open(tmp_path / "pen.zarr")
    assert store["observation"].shape == (20, 45)
    assert (store["action"] == actions).all()
    ours = make_env("adroit/pen")
    assert np.float32(ours.reset(seed=0)[0]["state"]) == pytest.approx(store["observation"][0])

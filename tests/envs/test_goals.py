"""Goal-conditioned tasks: goals of a dictionary observation, words, and poses that move along."""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from dipole.data import EpisodeWriter, decode_text
from dipole.data.loading.task_data import TaskData
from dipole.envs import evaluate
from dipole.envs.contract import EnvSpec
from dipole.envs.interface import Interface
from dipole.policy import Policy, PolicyConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "policy"))
from small_mlp import train

STEP, NEAR, MAX_STEPS = 0.15, 0.05, 30
WORDS = ("go to the left", "go to the right")


class Point(gymnasium.Env):
    """A point goes where it is sent, at most STEP a step; solved within NEAR of the goal.

    shift: By which its workspace, one unit wide, lies away from 0.
    """

    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, observation=(), shift=0.0):
        self.shift = shift

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = self.shift + self.np_random.uniform(0, 1, (2, 2))
        self.age = 0
        return self.look(), {}

    def step(self, action):
        way = np.asarray(action, float) - self.at
        self.at = self.at + way * min(1, STEP / max(np.linalg.norm(way), 1e-9))
        self.age += 1
        near = bool(np.linalg.norm(self.at - self.goal) < NEAR)
        return self.look(), -1.0, near, self.age == MAX_STEPS, {"is_success": near}

    def look(self):
        words = WORDS[int(self.goal[0] > self.at[0])]
        return {"achieved_goal": self.at, "desired_goal": self.goal, "instruction": words}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Straight to the goal, and a moment there; the words are those of the first frame."""
    path = tmp_path_factory.mktemp("data") / "points"
    environment = Point()
    with EpisodeWriter(path, fps=10) as writer:
        for seed in range(60):
            seen, _ = environment.reset(seed=seed)
            words, frames = seen["instruction"], []
            for _ in range(16):
                way = seen["desired_goal"] - seen["achieved_goal"]
                action = seen["achieved_goal"] + way * min(1, STEP / np.linalg.norm(way + 1e-9))
                pair = {name: seen[name] for name in ("achieved_goal", "desired_goal")}
                frames.append({**pair, "action": action})
                seen, *_ = environment.step(action)
            writer.add_episode({k: np.array([f[k] for f in frames]) for k in frames[0]}, words)
    return path


POINT = {"of": "achieved_goal", "groups": [{"columns": [0, 1]}]}


def task(dataset, to="absolute", **more):
    """What is seen and what is done relative to where the point is; absolute: as they are."""
    seen = {"to": "absolute" if to == "absolute" else "relative", **POINT}
    return {
        "name": "points",
        "dataset": str(dataset),
        "observation": {
            "achieved_goal": {"shape": [2], "represent": seen},
            "desired_goal": {"shape": [2], "represent": seen},
            **more,
        },
        "action": {"shape": [2], "represent": {"to": to, **POINT}},
        "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
        "split": {"val_ratio": 0.0},
    }


def made(data, **config):
    torch.manual_seed(0)
    head = {"head": {"name": "regression"}, "denoiser": {"name": "small_mlp", "width": 64}}
    policy = Policy(PolicyConfig(**head, **config), data.features, data.train.spec)
    policy.fit(data.train.statistics())
    return policy


def tensors(batch):
    return {
        "observation": {k: torch.as_tensor(v) for k, v in batch["observation"].items()},
        "action": torch.as_tensor(batch["action"]),
    }


def test_goals_are_features_by_their_names_and_words_may_be_left_out(dataset):
    data = TaskData.open(task(dataset), None)
    made(data).loss(tensors(data.train.gather(np.arange(4)))).backward()
    interface = Interface.of(data.features, EnvSpec("mine"), {})
    assert interface.entries == ("achieved_goal", "desired_goal")
    seen = Point().reset(seed=0)[0]
    found = interface.observe(seen)
    assert found["desired_goal"].tolist() == np.float32(seen["desired_goal"]).tolist()


def test_a_policy_with_words_gets_those_of_each_episode_and_of_the_simulator(dataset):
    words = {"shape": [24], "kind": "text"}
    data = TaskData.open(task(dataset, instruction=words), None)
    batch = data.train.gather(np.arange(len(data.train)))
    said = {decode_text(row) for row in batch["observation"]["instruction"][:, -1]}
    assert said == set(WORDS)
    parts = {"numbers": {"name": "state"}, "words": {"name": "bytes", "dim": 8}}
    policy = made(data, encoder={"name": "join", "parts": parts})
    policy.loss(tensors(data.train.gather(np.arange(4)))).backward()
    result = evaluate(policy.eval(), Point, episodes=2, picture=False)
    assert result.metrics["episodes"] == 2


@pytest.mark.heavy
@pytest.mark.parametrize("to", ["absolute", "relative", "delta"])
def test_relative_actions_work_where_nothing_was_demonstrated(dataset, to):
    """Trained in a workspace at 0, evaluated there and ten of its widths away."""
    data = TaskData.open(task(dataset, to), None)
    policy = made(data)
    everything = data.train.gather(np.arange(len(data.train)))
    draw = torch.Generator().manual_seed(0)

    def loss():
        rows = torch.randint(len(everything["action"]), (128,), generator=draw)
        observation = {k: torch.as_tensor(v)[rows] for k, v in everything["observation"].items()}
        action = torch.as_tensor(everything["action"])[rows]
        return policy.loss({"observation": observation, "action": action})

    train(loss, policy.parameters(), 400)
    policy.eval().requires_grad_(False)
    here, there = (
        evaluate(policy, Point, episodes=20, picture=False, environment_options={"shift": shift})
        for shift in (0.0, 10.0)
    )
    assert here.metrics["success_rate"] >= 0.9
    rate = there.metrics["success_rate"]
    assert rate <= 0.1 if to == "absolute" else rate >= 0.9

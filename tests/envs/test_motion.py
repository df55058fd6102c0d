"""What an evaluation says beside its scores: motion, modes, and evaluations of the network."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.envs import evaluate
from dipole.envs.evaluation.motion import Motion, roughness
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.solvers import Euler, Heun

sys.path.insert(0, str(Path(__file__).parent))
from fake_policy import FakePolicy
from tiny_simulator import TenSteps, TinySimulator, TwoWays


class Counting:
    """Chunk k of an episode is 100 k, 100 k + 1, ...: of H = 8, of which 4 are executed."""

    features = SimpleNamespace(observation={"position": None}, fps=5.0)
    device = torch.device("cpu")

    def __init__(self, n_action_steps=4):
        self.window = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=n_action_steps)
        self.chunks = {}

    def predict(self, observation, generator=None):
        rows = []
        for each in generator:
            number = self.chunks[id(each)] = self.chunks.get(id(each), -1) + 1
            rows.append(100.0 * number + torch.arange(8.0))
        return torch.stack(rows)[..., None].expand(-1, -1, 2)


def test_jerk_and_seam_jump_are_of_what_was_executed():
    motion = Motion()
    motion.add(np.array([[0.0], [0.0], [0.0]]))
    motion.add(np.array([[1.0], [1.0]]), planned=np.array([0.25]))
    assert motion.jerks().tolist() == [1, 2]  # of 0 0 0 1 1
    assert roughness([motion, Motion()], hz=10) == {"seam_jump": 0.75, "jerk": 1500}
    assert roughness([motion], hz=None)["jerk"] == 1.5
    assert roughness([Motion()], hz=10) == {"seam_jump": None, "jerk": None}


def test_an_evaluation_tells_how_chunks_join():
    """Ten steps: 1 2 3 4, 101 102 103 104, 201 202; each chunk had planned 5 or 105 next."""
    metrics = evaluate(Counting(), TenSteps, episodes=2, n_envs=1, picture=False).metrics
    assert metrics["seam_jump"] == pytest.approx(96 * 2**0.5)
    # Third differences: 0, 96, -192, 96, 0, 96, -192; times 5 Hz cubed.
    assert metrics["jerk"] == pytest.approx((96 + 192 + 96 + 96 + 192) / 7 * 125 * 2**0.5)


def test_chunks_that_are_executed_to_their_end_have_planned_nothing_else():
    metrics = evaluate(Counting(7), TenSteps, episodes=1, picture=False).metrics
    assert metrics["seam_jump"] is None
    assert metrics["jerk"] > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_motion_and_modes_do_not_depend_on_what_runs_beside(workers):
    alone = evaluate(FakePolicy(), TwoWays, episodes=6, n_envs=1, picture=False).metrics
    beside = evaluate(FakePolicy(), TwoWays, episodes=6, workers=workers, picture=False).metrics
    for key in ("seam_jump", "jerk", "modes", "per_episode"):
        assert alone[key] == beside[key]
    assert alone["modes"] == ["left", "right"]
    assert {episode["mode"] for episode in alone["per_episode"]} <= {"left", "right"}


def test_an_environment_without_modes_has_none_in_its_metrics():
    metrics = evaluate(FakePolicy(), TinySimulator, episodes=1, picture=False).metrics
    assert "modes" not in metrics
    assert "mode" not in metrics["per_episode"][0]


@pytest.mark.parametrize(("solver", "evaluations"), [(Heun(steps=4), 7), (Euler(steps=4), 4)])
def test_evaluations_are_the_rows_of_the_solver_s_table(solver, evaluations):
    denoiser = {"name": "unet1d", "down_dims": [8], "time_embed_dim": 8}
    config = PolicyConfig(denoiser=denoiser, process={"name": "flow"})
    features = Features({"position": Feature((1,))}, Feature((1,), kind="action"))
    policy = Policy(config, features, WindowSpec(1, 4, 4))
    policy.solver = solver
    assert policy.evaluations_per_chunk == evaluations

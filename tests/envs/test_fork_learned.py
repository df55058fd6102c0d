"""Fork is learned by every process, prediction and network: both sides, about as often.

Not by regression, whose chunk is the mean of both sides and leads into the disc.
"""

import importlib.util
from functools import cache
from pathlib import Path

import pytest
import torch

from dipole.benchmarks.fork_study import NETWORKS, PROCESSES, fit, make_policy, score, windows
from dipole.envs import evaluate
from dipole.policy.core.components import DENOISERS

path = Path(__file__).parents[1] / "policy" / "small_mlp.py"
spec = importlib.util.spec_from_file_location("small_mlp", path)
small_mlp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small_mlp)

# Third order from sigma 80 down to 0.002 wants more than a dozen steps (docs/solvers.md).
SOLVERS = ["ddim 10", "euler 10", "heun 10", "plms 12", "dpmpp_2m 10", "dpmpp_3m 20", "ddpm 50"]
# A solver is told what a network predicts, and not which one it is: one network for all solvers.
OF_NETWORKS = {"unet1d": SOLVERS}
OF_OTHERS = ["ddim 10", "dpmpp_2m 10"]


@cache
def learned(network, process, updates):
    torch.manual_seed(0)
    policy = make_policy(network, process)
    fit(policy, windows(), updates)
    return policy.eval().requires_grad_(False)


@pytest.mark.slow
def test_both_sides_are_learned_and_executed():
    """Of 500 episodes an entropy of 0.9 is a share of 32 %, eight standard deviations from 50."""
    found = score(learned(small_mlp.NAME, "vp-sample", 800), "dpmpp_2m 10", episodes=500)
    assert found["success"] >= 0.95
    assert found["entropy"] >= 0.9
    assert found["off_manifold"] < 25  # mm


@pytest.mark.slow
def test_regression_on_the_same_data_runs_into_the_disc():
    policy = learned(small_mlp.NAME, "regression", 300)
    metrics = evaluate(policy, "fork", episodes=100, n_envs=100, inference_batch_size=112).metrics
    assert metrics["success_rate"] <= 0.1
    lengths = [each["steps"] for each in metrics["per_episode"] if not each["success"]]
    assert sum(length < 15 for length in lengths) / len(lengths) >= 0.9  # at the disc, not later


@pytest.mark.heavy
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("network", [name for name in NETWORKS if name in DENOISERS.names()])
def test_each_network_learns_each_process_and_solvers_recover_it(network, process):
    """500 episodes: 95 % has a standard deviation of 1 point, an entropy of 0.9 is 32 %."""
    policy = learned(network, process, 1000)
    for solver in OF_NETWORKS.get(network, OF_OTHERS):
        found = score(policy, solver, episodes=500)
        assert found["success"] >= 0.95, solver
        assert found["entropy"] >= 0.9, solver


@pytest.mark.heavy
@pytest.mark.parametrize("network", [name for name in NETWORKS if name in DENOISERS.names()])
def test_no_network_learns_it_by_regression(network):
    found = score(learned(network, "regression", 1000), "", episodes=100)
    assert found["success"] <= 0.1

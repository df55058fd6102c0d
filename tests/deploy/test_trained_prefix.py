"""The merger of policies that learned in training to go on from the actions that run meanwhile."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dipole.data import ConfigError, Feature, Features, WindowSpec
from dipole.deploy import ControlLoop, LoopConfig, VirtualClock
from dipole.deploy.chunks.prefix import check_known, whole_prefix
from dipole.deploy.evaluation.latency import evaluate_delayed
from dipole.deploy.inference.remote import RemoteInference
from dipole.deploy.inference.torch_policy import PolicyCompute, spec_of
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.types import PolicySpec, Request, Ticket
from dipole.deploy.wire.protocol import Schema, greeting, read_greeting
from dipole.policy import Policy, PolicyConfig

sys.path.insert(0, str(Path(__file__).parent / "support"))
from real_server import running, served, wait_until
from virtual_robot import WINDOW, VirtualRobot, counting, run

SMALL = WindowSpec(n_obs_steps=2, horizon=6, n_action_steps=2)
SPEC = PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True, max_prefix=5)
QUIET = {"control_hz": 10.0, "max_limited": None, "max_approach": None}


def actions(*values):
    return [np.array([float(value)]) for value in values]


def test_the_prefix_is_what_ran_last_and_what_runs_until_the_chunk_arrives():
    known = whole_prefix(actions(9), actions(10, 11, 12), SMALL, delay=2)
    assert known["values"][:3, 0].tolist() == [9, 10, 11]
    assert known["weights"].tolist() == [1, 1, 1, 0, 0, 0]
    assert check_known(known, SMALL, 1).method == "prefix"


@pytest.mark.parametrize(
    ("delay", "left", "length"), [(0, 4, 1), (4, 2, 3), (3, 3, 4), (9, 20, 6), (1, 0, 0)]
)
def test_the_prefix_is_as_long_as_the_delay_and_no_longer_than_what_is_left(delay, left, length):
    known = whole_prefix(actions(9), actions(*range(left)), SMALL, delay)
    assert sum(known.get("weights", [])) == length


def test_before_the_first_action_that_ran_it_is_repeated():
    window = WindowSpec(n_obs_steps=3, horizon=8, n_action_steps=2)
    known = whole_prefix(actions(5), actions(6, 7), window, delay=1)
    assert known["values"][:3, 0].tolist() == [5, 5, 6]
    assert known["weights"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def asked(delay, spec=SPEC, seconds=6.0):
    """Tickets and what was known, request by request, the robot, and the report."""
    seen = []

    def compute(ticket, observation, known=None):
        seen.append((ticket, known))
        return counting()(ticket, observation)

    clock = VirtualClock()
    inference = VirtualInference(spec, compute, clock, delay)
    robot = VirtualRobot(clock)
    config = LoopConfig(merger="trained_prefix", **QUIET)
    report = run(ControlLoop(robot, inference, config, clock=clock, log=lambda line: None), seconds)
    return seen, robot, report


def test_a_request_knows_the_actions_that_run_until_its_chunk_arrives():
    seen, robot, _ = asked(0.25)
    assert seen[0][1] is None
    ticket, known = seen[2]
    assert known["weights"].tolist() == [1] * 4 + [0] * 12
    assert known["values"][:4, 0].tolist() == [207, 208, 209, 210]
    first = robot.actions.index(208)
    assert robot.actions[first - 1 : first + 4] == [207, 208, 209, 210, 303]
    assert ticket.consumed == first


def test_a_longer_delay_than_that_of_training_is_counted_and_bridged_as_far_as_it_goes():
    seen, _, report = asked(0.65)
    assert seen[3][1]["weights"].tolist() == [1] * 5 + [0] * 11
    assert report.counts["delays_too_long"] > 0
    assert "longer than the trained prefix" in str(report)
    assert asked(0.25)[2].counts["delays_too_long"] == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True), "needs a policy that was trained to"),
        (PolicySpec({"x": (2,)}, 2, WINDOW, max_prefix=1), "which its 2 observations take up"),
    ],
)
def test_a_policy_without_it_is_refused_before_anything_moves(spec, message):
    clock = VirtualClock()
    inference = VirtualInference(spec, counting(), clock)
    with pytest.raises(ConfigError, match=message):
        ControlLoop(VirtualRobot(clock), inference, LoopConfig(merger="trained_prefix"))


def test_rtc_is_not_given_the_form_of_this_merger():
    clock = VirtualClock()
    config = LoopConfig(merger="rtc", merger_options={"method": "prefix"})
    with pytest.raises(ConfigError, match="as merger trained_prefix asks"):
        ControlLoop(VirtualRobot(clock), VirtualInference(SPEC, counting(), clock), config)


def test_a_server_says_the_longest_prefix_and_an_older_one_has_none():
    said = greeting(Schema(SPEC), 2**20)
    assert read_greeting(said).spec.max_prefix == 5
    del said["policy"]["max_prefix"]
    assert read_greeting(said).spec.max_prefix == 0


@pytest.fixture(scope="module")
def policy():
    """A tiny network that was never trained, about the middle of Push-T."""
    torch.manual_seed(0)
    features = Features(
        {"keypoint": Feature((9, 2)), "agent_pos": Feature((2,))}, Feature((2,), kind="action")
    )
    denoiser = {"name": "dit", "width": 16, "depth": 1, "heads": 2, "time_embed_dim": 8}
    solver = {"name": "ddim", "steps": 3}
    head = {"name": "diffusion", "solver": solver, "prefix": {"probability": 0.5, "max_length": 5}}
    made = Policy(PolicyConfig(denoiser=denoiser, head=head), features, WindowSpec()).eval()
    made.normalizers["action"].scale.fill_(1 / 256)
    made.normalizers["action"].offset.fill_(-1.0)
    return made


OBSERVATION = {
    "keypoint": np.zeros((2, 9, 2), np.float32), "agent_pos": np.zeros((2, 2), np.float32)
}  # fmt: skip


def test_over_a_server_the_chunk_begins_with_what_is_known(policy):
    spec = spec_of(policy)
    assert spec.max_prefix == 5
    old = [np.array([400.0, 100.0 + k]) for k in range(10)]
    known = whole_prefix(old[:1], old[1:], policy.window, delay=4)
    with running(served(PolicyCompute(policy), spec)) as server:
        remote = RemoteInference(server.address)
        try:
            assert remote.spec.max_prefix == 5
            remote.submit(Request(Ticket(1, 0, 0.0, 0), OBSERVATION, known))
            found = []
            wait_until(lambda: found.append(remote.poll()) or found[-1] is not None, 20.0)
        finally:
            remote.close()
    assert found[-1].error == ""
    assert np.abs(found[-1].answer["action"][:5] - np.stack(old[:5])).max() < 1e-3


def test_in_a_delayed_evaluation_chunks_begin_with_the_actions_of_the_delay(policy, monkeypatch):
    predict, apart, lengths = policy.predict, [], set()

    def watched(observation, generator=None, *, known=None):
        chunk = predict(observation, generator, known=known)
        if known is not None:
            given = known.mask > 0
            lengths.update(given.any(dim=2).sum(dim=1).tolist())
            apart.append(float((chunk - known.values)[given].abs().max()))
        return chunk

    monkeypatch.setattr(policy, "predict", watched)
    metrics = evaluate_delayed(policy, delay=4, episodes=2, merger="trained_prefix").metrics
    assert metrics["merger"] == "trained_prefix"
    assert lengths == {5}
    assert len(apart) > 10
    assert max(apart) < 1e-3  # pixels


def test_a_delayed_evaluation_goes_as_far_as_the_training_did(policy):
    with pytest.raises(ConfigError, match="delay is 5, but the policy was trained to go on after"):
        evaluate_delayed(policy, delay=5, episodes=1, merger="trained_prefix")


def test_what_is_no_prefix_is_an_answer_that_says_so(policy):
    known = whole_prefix([], [np.array([1.0, 2.0])] * 4, policy.window, delay=2)
    known["weights"][7] = 1.0
    with pytest.raises(ConfigError, match="takes the first actions of a chunk"):
        PolicyCompute(policy)(Ticket(1, 0, 0.0, 0), OBSERVATION, known)

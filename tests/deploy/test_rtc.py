"""Real-time chunking: a chunk is asked for with what is left of the plan it will follow."""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.deploy import ActionSpec, LoopConfig, VirtualClock
from dipole.deploy.chunks.blending import make_merger
from dipole.deploy.chunks.prefix import check_known, known_prefix
from dipole.deploy.evaluation.latency import evaluate_delayed
from dipole.deploy.inference.process import ProcessInference
from dipole.deploy.inference.torch_policy import PolicyCompute, spec_of
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.control_loop import ControlLoop
from dipole.deploy.types import PolicySpec, Request, Ticket
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.guidance import InpaintingGuidance

sys.path.insert(0, str(Path(__file__).parent / "support"))
import real_processes
from virtual_robot import WINDOW, VirtualRobot, counting, run

SMALL = WindowSpec(n_obs_steps=2, horizon=6, n_action_steps=2)
SPEC = PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True)


def actions(*values):
    return [np.array([float(value)]) for value in values]


def test_the_prefix_is_what_ran_last_what_is_left_and_its_last_action_held():
    known = known_prefix(actions(9), actions(10, 11, 12), SMALL, delay=1, decay="linear")
    assert known["values"][:, 0].tolist() == [9, 10, 11, 12, 12, 12]
    assert known["weights"].tolist() == pytest.approx([1, 1, 2 / 3, 1 / 3, 0, 0])


def test_what_never_ran_is_held_back_from_the_first_action_with_weight_0():
    known = known_prefix([], actions(10, 11), SMALL, delay=2)
    assert known["values"][:, 0].tolist() == [10, 10, 11, 11, 11, 11]
    assert known["weights"].tolist() == [0, 1, 1, 0, 0, 0]


def test_no_more_is_known_than_a_chunk_is_long():
    known = known_prefix(actions(7, 8, 9), actions(*range(10, 30)), SMALL, delay=9)
    assert known["values"][:, 0].tolist() == [9, 10, 11, 12, 13, 14]
    assert known["weights"].tolist() == [1] * 6


def test_keep_bounds_how_much_of_the_old_plan_guides():
    known = known_prefix([], actions(*range(5)), SMALL, delay=1, keep=2, decay="none")
    assert known["weights"].tolist() == [0, 1, 1, 0, 0, 0]


def test_of_an_empty_plan_nothing_is_known():
    assert known_prefix(actions(9), [], SMALL, delay=1) == {}


def test_a_request_is_a_plain_mapping_of_arrays_and_numbers():
    known = known_prefix(actions(9), actions(10), SMALL, delay=1)
    for value in known.values():
        assert isinstance(value, np.ndarray | int | float)
    assert check_known(known, SMALL, 1) == InpaintingGuidance()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((5, 1))}, r"shape \[5, 1\]"),
        ({"values": np.full((6, 1), np.nan)}, "finite"),
        ({"weights": np.full(6, 1.5)}, "between 0 and 1"),
        ({"weights": np.array(["a"] * 6)}, "dtype <U1"),
        ({"form": 7}, "cannot be read"),
        ({"clip": -1.0}, "max_weight is -1"),
        ({"data_scale": None}, "cannot be read"),
    ],
)
def test_what_cannot_be_known_is_refused(change, message):
    known = {**known_prefix([], actions(1), SMALL, delay=0), **change}
    with pytest.raises(ConfigError, match=message):
        check_known(known, SMALL, 1)


def test_options_that_cannot_be_are_refused_before_anything_moves():
    spec = ActionSpec(("x",), measured_by="x")
    for options, message in (
        ({"method": "jacobean"}, "did you mean 'jacobian'"),
        ({"form": "jacobean"}, "did you mean 'jacobian'"),
        ({"decay": "quick"}, "unknown decay"),
        ({"keep": 0}, "at least one action"),
        ({"beta": 5}, "does not take these options"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_merger("rtc", spec, **options)


def asked(delay, seconds=6.0, **settings):
    """Tickets and what was known, request by request, of a loop at 10 Hz; and its robot."""
    seen = []

    def compute(ticket, observation, known=None):
        seen.append((ticket, known))
        return counting()(ticket, observation)

    clock = VirtualClock()
    config = LoopConfig(
        **{"control_hz": 10.0, "merger": "rtc", "max_limited": None, "max_approach": None}
        | settings
    )
    inference = VirtualInference(SPEC, compute, clock, delay)
    robot = VirtualRobot(clock)
    run(ControlLoop(robot, inference, config, clock=clock, log=lambda line: None), seconds)
    return seen, robot


def test_the_first_request_knows_nothing_and_the_next_what_is_left():
    seen, _ = asked(0.25)
    assert seen[0][1] is None
    known = seen[1][1]
    # Chunk 1 arrives after three empty slots, then 8 of its 15 actions, 100 to 107, are consumed.
    assert known["values"][:, 0].tolist() == [107, *range(108, 115), *[114] * 8]
    assert known["weights"][:4].tolist() == [1, 1, 1, 1]
    assert 0 < known["weights"][4] < 1
    assert known["weights"][8:].tolist() == [0] * 8


def test_what_is_frozen_is_what_runs_until_the_chunk_arrives():
    seen, robot = asked(0.25)
    ticket, known = seen[2]
    assert known["values"][:4, 0].tolist() == [207, 208, 209, 210]
    first = robot.actions.index(208)
    assert robot.actions[first - 1 : first + 4] == [207, 208, 209, 210, 303]
    assert ticket.consumed == first


def test_the_worst_of_the_latest_latencies_is_expected():
    delays = iter([0.05, 0.35, *[0.15] * 30])
    seen, _ = asked(lambda ticket: next(delays), seconds=20.0, warmup_calls=0)
    held = [int((known["weights"] == 1).sum()) for _, known in seen if known]
    expected = [count - 1 for count in held]  # one of them ran before
    assert expected[0] == 1
    assert expected[1:10] == [4] * 9
    assert expected[12] == 2


def test_a_policy_that_takes_nothing_known_is_refused():
    clock = VirtualClock()
    inference = VirtualInference(PolicySpec({"x": (2,)}, 2, WINDOW), counting(), clock)
    with pytest.raises(ConfigError, match="merger 'rtc' needs a policy that takes known parts"):
        ControlLoop(VirtualRobot(clock), inference, LoopConfig(merger="rtc"), clock=clock)


def test_other_mergers_ask_without_it():
    seen, _ = asked(0.25, merger="cross_fade")
    assert all(known is None for _, known in seen)


def exchanged(inference):
    known = known_prefix([], [np.array([1.0, 2.0])] * 5, WINDOW, delay=2)
    observation = {"x": np.zeros((2, 2), np.float32)}
    inference.submit(Request(Ticket(1, 0, 0.0, 0), observation, known))
    deadline = time.monotonic() + 30
    while (result := inference.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    inference.close()
    return result, known


@pytest.mark.parametrize(
    "make",
    [lambda: ThreadInference(*real_processes.echoing()),
     lambda: ProcessInference(real_processes.echoing)],
    ids=["thread", "process"],
)  # fmt: skip
def test_what_is_known_reaches_who_computes(make):
    result, known = exchanged(make())
    assert result.error == ""
    assert np.array_equal(result.answer["action"], known["values"])


@pytest.fixture(scope="module")
def policy():
    """A tiny network that was never trained, about the middle of Push-T."""
    torch.manual_seed(0)
    features = Features(
        {"keypoint": Feature((9, 2)), "agent_pos": Feature((2,))}, Feature((2,), kind="action")
    )
    denoiser = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
    head = {"name": "diffusion", "solver": {"name": "ddim", "steps": 3}}
    made = Policy(PolicyConfig(denoiser=denoiser, head=head), features, WindowSpec()).eval()
    made.normalizers["action"].scale.fill_(1 / 256)
    made.normalizers["action"].offset.fill_(-1.0)
    return made


@pytest.mark.parametrize("form", ["replace", "identity", "jacobian"])
def test_a_policy_computes_a_chunk_that_goes_on_as_the_old_plan(policy, form):
    compute, ticket = PolicyCompute(policy), Ticket(1, 0, 0.0, 0)
    observation = {"keypoint": np.zeros((2, 9, 2)), "agent_pos": np.zeros((2, 2))}
    old = [np.array([400.0, 100.0])] * 10
    known = known_prefix(
        [], old, policy.window, delay=4, guidance=InpaintingGuidance(form, None, 0.2)
    )
    free = compute(ticket, observation)["action"]
    found = PolicyCompute(policy)(ticket, observation, known)["action"]
    apart, together = (np.abs(chunk[1:5] - old[:4]).mean() for chunk in (free, found))
    assert apart > 50
    assert together < (0.6 * apart if form == "jacobian" else 1.0 + 0.02 * apart)
    assert spec_of(policy).inpaints


def test_a_delayed_evaluation_in_painted_has_smaller_seams(policy):
    evaluated = partial(evaluate_delayed, policy, delay=2, episodes=2)
    identity = {"merger_options": {"method": "identity", "max_weight": None, "data_std": 0.2}}
    held = evaluated(merger="rtc", **identity).metrics
    assert held["seam_jump"] < 0.2 * evaluated().metrics["seam_jump"]
    former = {"merger_options": {"form": "identity", "clip": None, "data_scale": 0.2}}
    again = evaluated(merger="rtc", **former).metrics
    told = ("seconds", "merger_options")
    assert {**held, **{name: again[name] for name in told}} == again


def test_through_the_jacobian_too(policy):
    metrics = [
        evaluate_delayed(policy, delay=2, episodes=1, merger=merger).metrics
        for merger in ("switch", "rtc")
    ]
    assert metrics[1]["seam_jump"] < metrics[0]["seam_jump"]

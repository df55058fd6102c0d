"""The policy as a function: shapes, randomness, known parts, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dipole.data import ConfigError, Feature, Features, Statistics, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.solvers import DDIM, DDPM
from dipole.policy.heads.base import ChunkBatch, SampleRequest

FEATURES = Features(
    observation={"agent_pos": Feature((2,)), "keypoint": Feature((9, 2))},
    action=Feature((2,), kind="action"),
)
WINDOW = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}


def make_policy(features=FEATURES, window=WINDOW, **config) -> Policy:
    torch.manual_seed(0)
    policy = Policy(PolicyConfig(**{"denoiser": SMALL, **config}), features, window)
    rng = np.random.default_rng(0)
    policy.fit(
        {
            "agent_pos": Statistics.of(rng.uniform(0, 512, (50, 2))),
            "keypoint": Statistics.of(rng.uniform(0, 512, (50, 9, 2))),
            "action": Statistics.of(np.array([[0.0, 100.0], [512.0, 400.0]])),
        }
    )
    return policy.eval()


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_chunk_has_the_horizon_and_stays_within_the_demonstrated_actions():
    policy = make_policy()
    chunk = policy.predict(policy.fake_observation(3))
    assert chunk.shape == (3, 8, 2)
    low, high = torch.tensor([0.0, 100.0]), torch.tensor([512.0, 400.0])
    assert (chunk >= low - 1e-3).all()
    assert (chunk <= high + 1e-3).all()


def test_the_context_is_time_major():
    policy = make_policy()
    observation = policy.fake_observation(1)
    normal = {k: policy.normalizers[k].normalize(v) for k, v in observation.items()}
    frames = [
        torch.cat([normal["agent_pos"][0, t], normal["keypoint"][0, t].flatten()]) for t in (0, 1)
    ]
    assert torch.allclose(policy.encode(observation).vector[0], torch.cat(frames))


def test_equal_generators_give_equal_chunks_and_leave_global_randomness_alone():
    policy = make_policy()
    observation = policy.fake_observation(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = policy.predict(observation, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, policy.predict(observation, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, policy.predict(observation, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("solver", [DDIM(4), DDPM(20)])
def test_a_row_with_its_own_generator_does_not_depend_on_its_neighbours(solver):
    policy = make_policy()
    observation = policy.fake_observation(3)
    together = policy.predict(observation, generators(7, 8, 9), solver=solver)
    swapped = {k: v[[2, 0, 1]] for k, v in observation.items()}
    apart = policy.predict(swapped, generators(9, 7, 8), solver=solver)
    assert torch.allclose(apart, together[[2, 0, 1]], atol=1e-3)


def test_one_generator_per_row_is_required():
    policy = make_policy()
    with pytest.raises(ValueError, match="2 generators for 3 rows"):
        policy.predict(policy.fake_observation(3), generators(1, 2))


def test_known_actions_come_out_as_given():
    policy = make_policy()
    values, mask = torch.full((1, 8, 2), 250.0), torch.zeros(1, 8, 2)
    mask[:, :3] = 1
    chunk = policy.predict(policy.fake_observation(1), known=KnownChunk(values, mask))
    assert torch.allclose(chunk[:, :3], values[:, :3], atol=1e-3)
    assert not torch.allclose(chunk[:, 3:], values[:, 3:])


def test_init_of_strength_0_comes_back_and_of_strength_1_is_ignored():
    policy = make_policy()
    observation, start = policy.fake_observation(1), torch.full((1, 8, 2), 300.0)
    noise = torch.randn(1, 8, 2)
    kept = policy.predict(observation, init=(start, 0.0))
    assert torch.allclose(kept, start, atol=1e-3)
    fresh = policy.predict(observation, noise=noise)
    assert torch.equal(policy.predict(observation, noise=noise, init=(start, 1.0)), fresh)
    with pytest.raises(ConfigError, match=r"strength of init is 0.5, and one step has no level"):
        policy.predict(observation, init=(start, 0.5), solver=DDIM(1))
    with pytest.raises(ConfigError, match=r"strength of init is 1.5"):
        policy.predict(observation, init=(start, 1.5))


def test_predicting_changes_nothing_in_the_policy():
    policy = make_policy()
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    policy.predict(policy.fake_observation(2))
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items())
    assert not [name for name in vars(policy) if "queue" in name or "history" in name]


def test_the_loss_is_the_error_of_the_predicted_noise(monkeypatch):
    policy = make_policy()
    batch = policy.fake_batch(64)
    monkeypatch.setattr(policy.head.denoiser, "forward", lambda x, *_: torch.zeros_like(x))
    torch.manual_seed(0)
    loss = float(policy.loss(batch))
    torch.manual_seed(0)
    noise = torch.randn(64, 8, 2)
    assert loss == pytest.approx(float((noise**2).mean()), rel=1e-5)


@pytest.mark.parametrize("prediction", ["noise", "sample", "v", "velocity", "edm"])
def test_every_prediction_type_can_learn_one_chunk(prediction):
    policy = make_policy(prediction=prediction)
    batch = policy.fake_batch(64)
    batch["action"] = torch.full((64, 8, 2), 256.0)
    observation = {k: v[:8] for k, v in batch["observation"].items()}
    before = mean_error(policy, observation)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        policy.loss(batch).backward()
        optimizer.step()
    assert mean_error(policy, observation) < before / 2


def mean_error(policy, observation):
    chunk = policy.predict(observation, torch.Generator().manual_seed(0))
    return float((chunk - 256).abs().mean())


def test_wrong_observations_are_named():
    policy = make_policy()
    observation = policy.fake_observation(1)
    with pytest.raises(ConfigError, match=r"has no 'agent_pos', did you mean 'agent_position'"):
        policy.predict({"agent_position": 0, "keypoint": observation["keypoint"]})
    observation["keypoint"] = observation["keypoint"].flatten(2)
    with pytest.raises(ConfigError, match=r"'keypoint' has shape \[1, 2, 18\].*\[B, 2, 9, 2\]"):
        policy.predict(observation)


def test_clipping_needs_actions_normalised_to_their_limits():
    features = replace(FEATURES, action=replace(FEATURES.action, normalize="gaussian"))
    with pytest.raises(ConfigError, match=r"normalised by 'gaussian': set action.normalize"):
        make_policy(features)
    make_policy(features, head={"name": "diffusion", "clip_sample": False})


def test_a_horizon_the_network_cannot_halve_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"horizon is 9.*multiple of 2"):
        make_policy(window=WindowSpec(2, 9, 4))


def test_an_action_slice_past_the_horizon_is_refused():
    with pytest.raises(ConfigError, match="n_obs_steps"):
        WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=8)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"denoiser": {"name": "unet2d"}}, "unknown denoiser 'unet2d', did you mean 'unet1d'"),
        ({"denoiser": {**SMALL, "kernel": 5}}, "no option 'kernel', did you mean 'kernel_size'"),
        ({"encoder": {"name": "stat"}}, "unknown encoder 'stat', did you mean 'state'"),
        ({"head": {"name": "difusion"}}, "unknown head 'difusion', did you mean 'diffusion'"),
        ({"head": {}}, "the head has no name"),
        (
            {"head": {"name": "diffusion", "solver": {"stepz": 3}}},
            "policy.head.solver 'ddim' has no option 'stepz', did you mean 'steps'",
        ),
        (
            {"process": {"name": "vp", "num_train_timestep": 3}},
            "has no option 'num_train_timestep', did you mean 'num_train_timesteps'",
        ),
    ],
)
def test_unknown_components_and_options_name_the_nearest(config, message):
    with pytest.raises(ConfigError, match=message):
        make_policy(**config)


@pytest.mark.parametrize("part", ["all", "counted"])
def test_the_loss_is_weighted_as_the_process_says(part, monkeypatch):
    policy = make_policy().train()
    batch = policy.fake_batch(8)
    if part == "counted":
        batch["action_is_missing"] = torch.tensor([[False, True]]).expand(8, 2)

    def loss() -> float:
        torch.manual_seed(0)
        return float(policy.loss(batch).detach())

    plain = loss()
    monkeypatch.setattr(policy.head.process, "weight", lambda level: 0 * level.noise + 3)
    assert loss() == pytest.approx(3 * plain, rel=1e-5)


def test_a_regression_s_loss_is_the_mean_over_the_numbers_that_count():
    head = make_policy(head={"name": "regression"}).head
    actions = torch.zeros(1, 8, 2)
    actions[..., 1] = 1e3  # of what does not count
    counted = torch.tensor([True, False]).expand(1, 8, 2)
    context = Context(torch.zeros(1, 40))
    output = head.sample(context, SampleRequest())
    loss = head.loss(ChunkBatch(actions, counted=counted), context)
    assert float(loss.total.detach()) == pytest.approx(float(output[..., 0].square().mean()))


def test_behind_a_prefix_what_does_not_count_has_no_loss_either():
    dit = {"name": "dit", "width": 8, "depth": 1, "heads": 2, "time_embed_dim": 8}  # it says 0
    prefix = {"probability": 1.0, "max_length": 3}
    head = make_policy(
        denoiser=dit, prediction="sample", head={"name": "diffusion", "prefix": prefix}
    ).head
    actions = torch.full((4, 8, 2), 0.5)
    actions[..., 1] = 1e3  # of what does not count
    counted = torch.tensor([True, False]).expand(4, 8, 2)
    loss = head.loss(ChunkBatch(actions, counted=counted), Context(torch.zeros(4, 40)))
    assert float(loss.total.detach()) == pytest.approx(0.25)

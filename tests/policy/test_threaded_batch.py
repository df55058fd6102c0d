"""Rows of a batch shared among threads: the same outputs, the same gradients, every time."""

import pytest
import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context
from dipole.policy.training.hardware.threaded_batch import LEAST_ROWS, is_divisible, threaded_batch

FEATURES = Features(
    {"state": Feature((3,), normalize="identity")}, Feature((2,), kind="action", normalize="limits")
)
DENOISER = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}


@pytest.fixture
def policy():
    torch.manual_seed(0)
    window = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
    policy = Policy(PolicyConfig(denoiser=DENOISER), FEATURES, window)
    # A head of its own for the observation: gradients have to come back out of the denoiser.
    policy.encoder.register_parameter("gain", torch.nn.Parameter(torch.ones(())))
    encode = policy.encoder.forward

    def with_gain(observation, missing=None):
        return encode({"state": observation["state"] * policy.encoder.gain}, missing)

    policy.encoder.forward = with_gain
    return policy


def loss_and_gradients(policy, threads, rows, **autocast):
    torch.manual_seed(rows)
    batch = policy.fake_batch(rows)
    policy.zero_grad()
    with threaded_batch(policy, threads):
        with torch.autocast("cpu", torch.bfloat16, **autocast):
            loss = policy.loss(batch)
        loss.backward()
    return float(loss.detach()), {name: p.grad for name, p in policy.named_parameters()}


@pytest.mark.parametrize(("threads", "rows"), [(2, 16), (2, 33), (3, 64), (4, 3)])
def test_dividing_rows_changes_nothing_but_rounding(policy, threads, rows):
    whole, expected = loss_and_gradients(policy, 1, rows, enabled=False)
    divided, found = loss_and_gradients(policy, threads, rows, enabled=False)
    assert divided == pytest.approx(whole, rel=1e-6)
    assert expected["encoder.gain"].abs() > 0
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-6, rtol=1e-5), name


def test_the_same_bits_every_time(policy):
    _, first = loss_and_gradients(policy, 2, 64, enabled=False)
    for _ in range(5):
        _, again = loss_and_gradients(policy, 2, 64, enabled=False)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_autocast_reaches_the_threads(policy):
    single, _ = loss_and_gradients(policy, 2, 32, enabled=False)
    whole, _ = loss_and_gradients(policy, 1, 32, enabled=True)
    divided, _ = loss_and_gradients(policy, 2, 32, enabled=True)
    assert divided != single
    assert divided == pytest.approx(whole, rel=1e-3)


def test_each_thread_gets_its_rows_and_small_batches_are_not_divided(policy):
    seen = []
    run = policy.head.denoiser._run
    policy.head.denoiser._run = lambda chunk, *conditions: (
        seen.append(len(chunk)) or run(chunk, *conditions)
    )
    for rows in (2 * LEAST_ROWS - 1, 2 * LEAST_ROWS + 1):
        loss_and_gradients(policy, 2, rows, enabled=False)
    assert sorted(seen) == [LEAST_ROWS, LEAST_ROWS + 1, 2 * LEAST_ROWS - 1]


def test_afterwards_the_denoiser_is_as_before(policy):
    with threaded_batch(policy, 2):
        assert policy.head.denoiser.batch_runner is not None
    assert policy.head.denoiser.batch_runner is None


def test_an_error_in_a_thread_is_the_callers_error(policy):
    def fail(chunk, *conditions):
        raise RuntimeError("out of paper")

    policy.head.denoiser._run = fail
    with pytest.raises(RuntimeError, match="out of paper"):
        loss_and_gradients(policy, 2, 64, enabled=False)


def test_a_branchs_residuals_are_divided_too(policy):
    denoiser = policy.head.denoiser
    chunk, time, vector = torch.randn(33, 8, 2), torch.arange(33), torch.randn(33, 6)
    outputs, gradients = [], []
    for threads in (1, 2):
        residuals = [torch.ones(33, 16, 4, requires_grad=True) for _ in range(2)]
        with threaded_batch(policy, threads):
            outputs.append(denoiser(chunk, time, Context(vector), residuals))
            gradients.append(torch.autograd.grad(outputs[-1].square().sum(), residuals))
    assert torch.allclose(*outputs, atol=1e-5)
    for one, other in zip(*gradients, strict=True):
        assert one.abs().sum() > 0
        assert torch.allclose(one, other, atol=1e-5)


def test_a_denoiser_that_does_not_say_so_is_not_divided(policy):
    assert is_divisible(policy)
    policy.head.denoiser.rows_are_independent = False
    assert not is_divisible(policy)
    with threaded_batch(policy, 2):
        assert policy.head.denoiser.batch_runner is None

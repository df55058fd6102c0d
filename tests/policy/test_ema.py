"""The moving average against PARITY's literal numbers and diffusers."""

import pytest
import torch
from diffusers.training_utils import EMAModel

from dipole.policy.training import EMA, EMAConfig, ema_decay


@pytest.mark.parametrize(
    ("update", "decay"),
    [(0, 0.0), (1, 0.0), (2, 0.405396), (10, 0.822172), (100, 0.968377), (1000, 0.994377)],
)
def test_decay(update, decay):
    assert ema_decay(update, EMAConfig()) == pytest.approx(decay, abs=1e-6)


def test_decay_is_bounded():
    assert ema_decay(10**9, EMAConfig()) == 0.9999


def test_the_average_is_that_of_diffusers_one_update_later():
    """The paper's decay lags: what diffusers makes of updates 1, 2, 3, ours makes of 0, 1, 2, 3,
    of which the first only copies."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    ours = EMA(model, EMAConfig())
    ours.update(model)
    theirs = EMAModel(
        model.parameters(), use_ema_warmup=True, inv_gamma=1.0, power=0.75, decay=0.9999
    )
    for _ in range(20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        theirs.step(model.parameters())
        ours.update(model)
    for mine, other in zip(ours.model.parameters(), theirs.shadow_params, strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


def test_buffers_are_followed_at_once():
    model = torch.nn.Linear(1, 1)
    model.register_buffer("seen", torch.zeros(2))
    average = EMA(model, EMAConfig())
    model.seen.fill_(3.0)
    average.update(model)
    assert average.model.seen.tolist() == [3.0, 3.0]


def test_the_first_updates_copy():
    model = torch.nn.Linear(1, 1)
    average = EMA(model, EMAConfig())
    with torch.no_grad():
        model.weight.fill_(5.0)
    average.update(model)
    assert float(average.model.weight) == 5.0
    assert average.updates == 1

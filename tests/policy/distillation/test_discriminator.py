"""The discriminator of chunks, its losses, and the balance of two losses' gradients."""

import pytest
import torch

from dipole.data import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.row_draws import RowDraws
from dipole.policy.training.objectives.distillation.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    balance,
    deceiving_loss,
    discriminator_loss,
    judged,
)

CHUNK = torch.linspace(-1, 1, 3 * 7 * 2).view(3, 7, 2)


def every_part(rows=3):
    torch.manual_seed(1)
    mask = torch.tensor([[True, True, False]]).expand(rows, 3)
    return Context(torch.randn(rows, 4), torch.randn(rows, 3, 5), mask, torch.randn(rows, 7, 6))


def made(spec=None, **options):
    torch.manual_seed(0)
    return Discriminator(2, 7, spec or ContextSpec(4, 5, 6), width=8, **options).eval()


def test_a_score_follows_each_part_of_the_context_and_ignores_tokens_that_do_not_count():
    judge, context = made(), every_part()
    score = judge(CHUNK, context)
    assert score.shape == (3,)
    for part in ("vector", "tokens", "frames"):
        parts = {name: getattr(context, name) for name in ("vector", "tokens", "frames")}
        changed = Context(**{**parts, part: parts[part] + 1}, token_mask=context.token_mask)
        assert not torch.allclose(score, judge(CHUNK, changed))
    tokens = context.tokens.clone()
    tokens[:, 2] = 9.0  # masked
    same = Context(context.vector, tokens, context.token_mask, context.frames)
    assert torch.equal(score, judge(CHUNK, same))


def test_it_does_without_a_context_and_is_told_further_numbers():
    nothing = made(ContextSpec())
    assert nothing(CHUNK, Context()).shape == (3,)
    told = made(ContextSpec(), further=1)
    one, other = (told(CHUNK, Context(), torch.full((3, 1), value)) for value in (0.0, 1.0))
    assert not torch.allclose(one, other)


def test_what_does_not_count_is_not_seen():
    counted = torch.ones(3, 7, 2, dtype=torch.bool)
    counted[:, 4:] = False
    judge = judged(made(), every_part(), counted)
    other = CHUNK.clone()
    other[:, 4:] = 5.0
    assert torch.equal(judge(CHUNK), judge(other))


def test_hinge_and_r1_are_those_of_the_papers():
    def judge(chunk):
        return 0.5 * chunk.flatten(1).sum(dim=1)  # its gradient is 0.5 at each of 14 numbers

    real, fake = torch.full((3, 7, 2), 1 / 14), torch.full((3, 7, 2), -1 / 7)
    loss = discriminator_loss(judge, real, fake, r1=2.0)  # scores 0.5 and -1
    assert loss.parts["hinge"].item() == pytest.approx(0.5)
    assert loss.parts["r1"].item() == pytest.approx(14 * 0.25)
    assert loss.total.item() == pytest.approx(0.5 + 14 * 0.25)
    assert float(deceiving_loss(judge, fake)) == pytest.approx(1.0)
    with torch.no_grad():  # as in validation
        assert set(discriminator_loss(judge, real, fake, 2.0).parts) == {"hinge"}


def test_r1_trains_the_discriminator_by_second_derivatives():
    network = made(ContextSpec(4)).train()
    context = Context(every_part().vector)
    judge = judged(network, context, None)
    discriminator_loss(judge, CHUNK, -CHUNK, 1.0).parts["r1"].backward()
    assert all(bool(layer.weight.grad.abs().sum() > 0) for layer in network.layers)


@pytest.mark.heavy
def test_it_learns_to_tell_chunks_apart_that_lie_close():
    """As a teacher's one jump lies to demonstrations: 0.006 of mean squared distance."""
    torch.manual_seed(0)
    options = DiscriminatorConfig(width=32)
    judge_of = Discriminator(2, 8, ContextSpec(4), options.width)
    rate = options.learning_rate_ratio * 5e-4
    optimizer = torch.optim.AdamW(judge_of.parameters(), rate, betas=(0.5, 0.999))
    hinges = []
    for _ in range(200):
        context = Context(torch.randn(64, 4))
        real = context.vector.reshape(64, 1, 4)[..., :2] + 0.05 * torch.randn(64, 8, 2)
        fake = real.mean(dim=1, keepdim=True).expand(64, 8, 2) + 0.06
        loss = discriminator_loss(judged(judge_of, context, None), real, fake, options.r1)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        hinges.append(float(loss.parts["hinge"].detach()))
    assert sum(hinges[-20:]) / 20 < 1.2, sum(hinges[-20:]) / 20


def test_balanced_gradients_are_of_one_length():
    at = torch.ones(2, 3, 1, requires_grad=True)
    wanted, other = (3 * at).sum(), (at**2).sum() * 7
    factor = balance(wanted, other, at)
    assert not factor.requires_grad
    lengths = [torch.autograd.grad(each, at)[0].norm() for each in (wanted, factor * other)]
    assert torch.allclose(*lengths)
    with torch.no_grad():
        assert float(balance(wanted.detach(), other.detach(), at)) == 1


@pytest.mark.parametrize("total", [7, 8])
def test_the_balance_of_several_processes_is_that_of_one(total):
    """Whose rows differ, so that the lengths of each process's own gradients do."""
    torch.manual_seed(0)
    values, goals = torch.randn(total, 4, 2) * torch.linspace(0.1, 2, total)[:, None, None], 0.3

    def factor(rows):
        at = values[rows].requires_grad_()
        return balance(-at.tanh().flatten(1).sum(1).mean(), (at - goals).square().mean(), at)

    def of_rank(rank, add):
        with RowDraws(rank, 2, total, 0, add):
            return float(factor(slice(rank, None, 2)))

    said = ([], [])
    for rank in (0, 1):
        of_rank(rank, lambda each, rank=rank: said[rank].append(each) or each)
    whole = float(factor(slice(None)))
    for rank in (0, 1):
        sums = iter([one + other for one, other in zip(*said, strict=True)])
        assert of_rank(rank, lambda _, sums=sums: next(sums)) == pytest.approx(whole, rel=1e-5)


def test_unusable_options_are_refused():
    with pytest.raises(ConfigError, match=r"discriminator.updates is 0: at least 1"):
        DiscriminatorConfig(updates=0)
    with pytest.raises(ConfigError, match=r"discriminator.r1 is -1: it is 0 or more"):
        DiscriminatorConfig(r1=-1)

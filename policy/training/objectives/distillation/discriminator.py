"""A discriminator of action chunks given the observation, and its losses.

    chunk [B, H, A] ──> convolution ─> halve ─> halve ─> linear ─┬─> score [B]
                            │            │        │              │
    context ─> layer ───────┴────────────┴────────┴──────────────┘ projection

All its modules are torch's own, so that R1 can be differentiated twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.context import Context, ContextSpec
from dipole.policy.core.row_draws import squared_length
from dipole.policy.heads.base import Loss

SLOPE = 0.2  # of the leaky ReLUs
KERNEL = 5


@dataclass(frozen=True)
class DiscriminatorConfig:
    """width: Channels. r1: Weight of the R1 penalty; 0: none.

    learning_rate_ratio: Of its learning rate to train.learning_rate.
    updates: Of the discriminator for each update of the policy.
    """

    width: int = 128
    r1: float = 0.001
    learning_rate_ratio: float = 2.0
    updates: int = 1

    def __post_init__(self) -> None:
        for name in ("width", "updates"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"objective.discriminator.{name} is {getattr(self, name)}: at least 1 is needed"
                )
        if not self.r1 >= 0:
            raise ConfigError(f"objective.discriminator.r1 is {self.r1}: it is 0 or more")


class Discriminator(nn.Module):
    """(chunk [B, H, A], Context) -> score [B], high for chunks that are taken for real.

    With a projection of the condition (Miyato & Koyama, 2018). Without spectral norms: made chunks
    lie so close to demonstrated ones (0.006 of mean squared distance, normalised, after one jump of
    a teacher) that with them it told nothing apart; what bounds its slope is R1.

    action_dim, horizon: A and H.
    context: What encoders give; of its tokens the mean is taken.
    width: Channels.
    further: Numbers of a row that it is told beside the context, such as a noise level's time.
    """

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        context: ContextSpec,
        width: int = 128,
        further: int = 0,
    ) -> None:
        super().__init__()
        sizes = (context.vector_dim, context.token_dim or 0, further)
        channels = (action_dim + (context.frame_dim or 0), width, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(size, width, KERNEL, stride=stride, padding=KERNEL // 2)
            for size, stride in zip(channels, (1, 2, 2), strict=True)
        )
        last = -(-horizon // 4)  # frames after halving twice
        self.condition = nn.Linear(max(sum(sizes), 1), width)  # of nothing: one number, 0
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in self.layers)
        self.hidden = nn.Linear(last * width, width)
        self.projection, self.score = nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, chunk: Tensor, context: Context, further: Tensor | None = None) -> Tensor:
        """further: [B, further]."""
        condition = F.leaky_relu(self.condition(_vector_of(context, chunk, further)), SLOPE)
        frames = [chunk] if context.frames is None else [chunk, context.frames]
        x = torch.cat(frames, dim=-1).transpose(1, 2)  # [B, C, H]
        for layer, inner in zip(self.layers, self.inner, strict=True):
            x = F.leaky_relu(layer(x) + inner(condition)[..., None], SLOPE)
        x = F.leaky_relu(self.hidden(x.flatten(1)), SLOPE)
        score: Tensor = self.score(x).squeeze(-1) + (x * self.projection(condition)).sum(dim=-1)
        return score


Judge = Callable[[Tensor], Tensor]  # chunks [B, H, A] -> scores [B]


def judged(
    discriminator: Discriminator,
    context: Context,
    counted: Tensor | None,
    further: Tensor | None = None,
) -> Judge:
    """A discriminator given the observation, which sees only those numbers that count."""

    def judge(chunk: Tensor) -> Tensor:
        seen = chunk if counted is None else chunk * counted
        score: Tensor = discriminator(seen, context, further)
        return score

    return judge


def discriminator_loss(judge: Judge, real: Tensor, fake: Tensor, r1: float) -> Loss:
    """What a discriminator minimises, of its parts "hinge" and "r1".

    Hinge: mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake)) (Lim & Ye, 2017). R1, where `r1` is
    not 0: r1 / 2 mean |grad D(real)|^2 (Mescheder et al., 2018).
    """
    is_penalised = r1 > 0 and torch.is_grad_enabled()
    real = real.detach().requires_grad_(is_penalised)
    of_real, of_fake = judge(real), judge(fake.detach())
    parts = {"hinge": F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean()}
    if is_penalised:
        (slope,) = torch.autograd.grad(of_real.sum(), real, create_graph=True)
        parts["r1"] = r1 / 2 * slope.square().flatten(1).sum(dim=1).mean()
    return Loss(sum(parts.values(), real.new_zeros(())), parts)


def deceiving_loss(judge: Judge, fake: Tensor) -> Tensor:
    """-mean D(fake), which the generator minimises; a scalar."""
    return -judge(fake).mean()


def balance(wanted: Tensor, other: Tensor, at: Tensor) -> Tensor:
    """By what to multiply the loss `other`, so that its gradient at `at` [B, H, A], what a network
    gave, is as long as that of the loss `wanted` (Esser et al., 2021, eq. 7), over the rows of all
    processes; a scalar without a gradient. Where no gradients are computed it is 1."""
    if not torch.is_grad_enabled():
        return torch.ones_like(wanted)
    lengths = [
        squared_length(torch.autograd.grad(loss, at, retain_graph=True)[0]).sqrt()
        for loss in (wanted, other)
    ]
    factor: Tensor = (lengths[0] / lengths[1].clamp(min=1e-8)).clamp(max=1e4)
    return factor.detach()


def _vector_of(context: Context, chunk: Tensor, further: Tensor | None) -> Tensor:
    """The condition as a vector, [B, numbers]."""
    parts = [each for each in (context.vector, _mean_token(context), further) if each is not None]
    return torch.cat(parts, dim=-1) if parts else chunk.new_zeros(len(chunk), 1)


def _mean_token(context: Context) -> Tensor | None:
    if context.tokens is None or context.token_mask is None:
        return None if context.tokens is None else context.tokens.mean(dim=1)
    counts = context.token_mask[..., None].to(context.tokens.dtype)
    return (context.tokens * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)

"""The learned null of a context, in place of an observation: for classifier-free guidance."""

import torch
from torch import Tensor, nn

from dipole.policy.context import Context, ContextSpec


class NullContext(nn.Module):
    """What a network is told instead of an observation: parameters, the same for every row.

    vector: [G], frames: [F], zeros at first; token: [E], a single one, of small random numbers.
    """

    vector: Tensor | None
    token: Tensor | None
    frame: Tensor | None

    def __init__(self, spec: ContextSpec) -> None:
        super().__init__()
        has_vector = spec.vector_dim > 0
        self.vector = nn.Parameter(torch.zeros(spec.vector_dim)) if has_vector else None
        self.token = None if spec.token_dim is None else _small(spec.token_dim)
        self.frame = None if spec.frame_dim is None else nn.Parameter(torch.zeros(spec.frame_dim))

    def forward(self, like: Context) -> Context:
        """A null context of as many rows, and frames, as `like`; with a single token."""
        first = None if like.tokens is None else like.tokens[:, :1]
        return Context(
            _repeated(self.vector, like.vector),
            _repeated(self.token, first),
            frames=_repeated(self.frame, like.frames),
        )


def _repeated(value: Tensor | None, like: Tensor | None) -> Tensor | None:
    """[E] -> [B, ..., E], in the shape of another tensor, which exports may change."""
    return None if value is None or like is None else value.to(like.dtype).expand_as(like)


def _small(size: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(size))

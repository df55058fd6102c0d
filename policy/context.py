"""What an encoder says about the observation."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Context:
    """The observation as the denoiser sees it: computed once per chunk, never inside the loop.

    vector: [B, G]. tokens: [B, K, E], keys and values for cross-attention, with
    token_mask [B, K] true where a token counts; both absent for vector-only encoders.
    """

    vector: Tensor
    tokens: Tensor | None = None
    token_mask: Tensor | None = None

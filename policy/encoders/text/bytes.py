"""Instructions byte by byte: embeddings, mixed by two convolutions."""

import torch
from torch import Tensor, nn

from dipole.data import Features, WindowSpec
from dipole.policy.core.components import ENCODERS
from dipole.policy.encoders.text.text_encoder import TextEncoder


@ENCODERS.add("bytes")
class BytesEncoder(TextEncoder):
    """A token for each byte of the text, which knows its place and its four neighbours' own.

    For spellings that matter, such as numbers of parts; `words` has fewer and larger tokens.
    """

    def __init__(
        self, features: Features, window: WindowSpec, dim: int = 32, token_dim: int | None = None
    ) -> None:
        super().__init__(features, dim, token_dim)
        longest = max(feature.size for feature in features.observation.values())
        self.embedding = nn.Embedding(256, self.width)
        self.places = nn.Parameter(0.02 * torch.randn(longest, self.width))
        self.mix = nn.ModuleList(
            nn.Conv1d(self.width, self.width, kernel_size=3, padding=1) for _ in range(2)
        )

    def embed(self, text: Tensor) -> tuple[Tensor, Tensor]:
        mask = text != 0
        counts = mask[..., None]
        tokens = (self.embedding(text) + self.places[: text.shape[1]]) * counts
        for mix in self.mix:
            mixed = mix(tokens.transpose(1, 2)).transpose(1, 2)
            tokens = (tokens + torch.nn.functional.gelu(mixed)) * counts
        return tokens, mask

"""Instructions word by word: hashed words, their embeddings and their order."""

import torch
from torch import Tensor, nn

from dipole.data import Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import ENCODERS
from dipole.policy.encoders.text.text_encoder import TextEncoder

MULTIPLIER, MODULUS = 257, 1_000_003  # of the polynomial hash; the modulus is prime


@ENCODERS.add("words")
class WordsEncoder(TextEncoder):
    """A token for each word: an embedding of its hash, and of its place among the words.

    n_buckets: Rows of the embedding table; words are told apart by their hash modulo n_buckets.

    Words are letters and digits in a row, small and capital ones alike. There is no vocabulary, so
    that a word which training did not see has an embedding, but an untrained one.
    """

    powers: Tensor

    def __init__(
        self,
        features: Features,
        window: WindowSpec,
        dim: int = 32,
        token_dim: int | None = None,
        n_buckets: int = 4096,
    ) -> None:
        super().__init__(features, dim, token_dim)
        if n_buckets < 1:
            raise ConfigError(f"n_buckets is {n_buckets}: at least 1")
        longest = max(feature.size for feature in features.observation.values())
        self.n_buckets = n_buckets
        self.embedding = nn.Embedding(n_buckets, self.width)
        self.places = nn.Parameter(0.02 * torch.randn((longest + 1) // 2, self.width))
        hidden = 2 * self.width
        self.mlp = nn.Sequential(
            nn.Linear(self.width, hidden), nn.GELU(), nn.Linear(hidden, self.width)
        )

        # A buffer, since what is copied from the processor in `forward` cannot be captured.
        self.register_buffer("powers", powers(longest), persistent=False)

    def embed(self, text: Tensor) -> tuple[Tensor, Tensor]:
        hashes, mask = hashed_words(text, self.powers)
        tokens = self.embedding(hashes % self.n_buckets) + self.places[: hashes.shape[1]]
        return tokens + self.mlp(tokens), mask


def hashed_words(text: Tensor, powers: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes, int64 [B, L] -> a hash of each word, int64 [B, K], and which there are, bool [B, K].

    powers: Those of MULTIPLIER, int64, L of them or more, on the device of the text.

    K is (L + 1) // 2, the most words that L bytes can hold. The hash is the sum of
    byte_i * MULTIPLIER^i over a word's bytes, modulo MODULUS.
    """
    length = text.shape[1]
    lower = torch.where((text >= 65) & (text <= 90), text + 32, text)
    digit, letter = (lower >= 48) & (lower <= 57), (lower >= 97) & (lower <= 122)
    inside = digit | letter | (lower >= 128)  # bytes of letters beyond ASCII are 128 and more
    before = torch.cat([torch.zeros_like(inside[:, :1]), inside[:, :-1]], 1)
    starts = inside & ~before
    word = (starts.long().cumsum(1) - 1).clamp(min=0)  # the word that each byte belongs to
    places = torch.arange(length, device=text.device)
    none = torch.zeros_like(text[:, : (length + 1) // 2])  # [B, K]
    begins = none.scatter_add(1, word, torch.where(starts, places, 0))
    since = (places - begins.gather(1, word)).clamp(min=0)  # place within the word
    terms = torch.where(inside, lower * powers[since], 0)
    sums = none.scatter_add(1, word, terms)
    present = places[: none.shape[1]] < starts.sum(1, keepdim=True)
    return sums % MODULUS, present


def powers(length: int) -> Tensor:
    """MULTIPLIER^n modulo MODULUS, int64 [length]."""
    return torch.tensor([pow(MULTIPLIER, n, MODULUS) for n in range(length)])

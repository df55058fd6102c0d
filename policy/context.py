"""Conditioning produced by the observation encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class ContextSpec:
    """Sizes of the parts of a context, for the networks that are built for it.

    vector_dim: Numbers of the vector, G; 0 for none.
    token_dim: Numbers of each token, E; None for no tokens.
    frame_dim: Numbers of each frame, F; None for no frames.
    """

    vector_dim: int = 0
    token_dim: int | None = None
    frame_dim: int | None = None


@dataclass(frozen=True)
class Context:
    """What a denoiser knows of the observation: computed once per chunk. Each part is optional.

    vector: [B, G].
    tokens: [B, K, E], keys and values for cross-attention.
    token_mask: bool [B, K], true where a token counts; None: all of them.
    frames: [B, H, F], aligned with the frames of the chunk.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    frames: Tensor | None = None

    @property
    def rows(self) -> int:
        """B, of whichever part there is. Raises ValueError for an empty context."""
        return self._any().shape[0]  # not len, which a tracer takes for a constant

    @property
    def device(self) -> torch.device:
        """Where the parts lie."""
        return self._any().device

    def map(self, function: Callable[[Tensor], Tensor]) -> "Context":
        """The context of function(part) for each part; the mask stays."""
        return Context(
            *(
                value if value is None or name == "token_mask" else function(value)
                for name, value in self._parts()
            )
        )

    def rows_of(self, which: slice) -> "Context":
        """The context of some of the rows."""
        return Context(*(None if value is None else value[which] for _, value in self._parts()))

    def repeated(self, times: int) -> "Context":
        """The context `times` times, one copy after another: [times * B, ...]."""

        def stacked(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.repeat(times, *[1] * (part.dim() - 1))

        return Context(*(stacked(value) for _, value in self._parts()))

    @staticmethod
    def stack(contexts: Sequence["Context"]) -> "Context":
        """The rows of several contexts of the same parts, one context after another."""
        first, *others = contexts
        for other in others:
            mine, theirs = first._with_as_many_tokens(other), other._with_as_many_tokens(first)
            first = Context(
                *(
                    None if one is None or two is None else torch.cat([one, two])
                    for (_, one), (_, two) in zip(mine._parts(), theirs._parts(), strict=True)
                )
            )
        return first

    def where(self, keep: Tensor, null: "Context") -> "Context":
        """Row by row this context where `keep`, bool [B], and `null` elsewhere.

        Both have the same parts. Where one has fewer tokens, those that it lacks do not count.
        """
        mine, theirs = self._with_as_many_tokens(null), null._with_as_many_tokens(self)
        return Context(
            *(
                one if one is None or other is None else _chosen(keep, one, other)
                for (_, one), (_, other) in zip(mine._parts(), theirs._parts(), strict=True)
            )
        )

    @staticmethod
    def join(parts: Sequence["Context"]) -> "Context":
        """One context of several: vectors and frames side by side, tokens one after another."""
        vectors = [part.vector for part in parts if part.vector is not None]
        frames = [part.frames for part in parts if part.frames is not None]
        told = [part for part in parts if part.tokens is not None]
        masked = any(part.token_mask is not None for part in told)
        return Context(
            torch.cat(vectors, 1) if vectors else None,
            torch.cat([part.tokens for part in told if part.tokens is not None], 1)
            if told
            else None,
            torch.cat([part._mask() for part in told], 1) if masked else None,
            torch.cat(frames, 2) if frames else None,
        )

    def _any(self) -> Tensor:
        for part in (self.vector, self.tokens, self.frames):
            if part is not None:
                return part
        raise ValueError("the context is empty: it has no vector, no tokens and no frames")

    def _parts(self) -> list[tuple[str, Tensor | None]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    def _mask(self) -> Tensor:
        """The mask of the tokens, made where there is none."""
        assert self.tokens is not None
        if self.token_mask is not None:
            return self.token_mask
        return torch.ones(self.tokens.shape[:2], dtype=torch.bool, device=self.tokens.device)

    def _with_as_many_tokens(self, other: "Context") -> "Context":
        """With a mask where either has one, and padded to as many tokens as the other has."""
        if self.tokens is None or other.tokens is None:
            return self
        lacking = max(0, other.tokens.shape[1] - self.tokens.shape[1])
        same = self.tokens.shape[1] == other.tokens.shape[1]
        if same and self.token_mask is None and other.token_mask is None:
            return self
        tokens = torch.nn.functional.pad(self.tokens, (0, 0, 0, lacking))
        mask = torch.nn.functional.pad(self._mask(), (0, lacking))
        return Context(self.vector, tokens, mask, self.frames)


def _chosen(keep: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(keep.view(-1, *[1] * (one.dim() - 1)), one, other)

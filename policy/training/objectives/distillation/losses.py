"""Distances between chunks, of rows, where only some numbers count."""

from torch import Tensor

SMALL = 0.00054  # c of `pseudo_huber`, times the root of the numbers of a chunk


def squared(error: Tensor, counted: Tensor | None = None) -> Tensor:
    """The mean square over a chunk's numbers that count: [B, H, A] -> [B]."""
    square = error.square()
    if counted is None:
        return square.flatten(1).mean(dim=1)
    return (square * counted).flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1).clamp(min=1)


def pseudo_huber(error: Tensor, counted: Tensor | None = None) -> Tensor:
    """sqrt(|error|^2 + c^2) - c over a chunk, [B, H, A] -> [B], with c = 0.00054 sqrt(H A) (Song &
    Dhariwal, 2023, eq. 7). Divided by sqrt(H A), so that losses of chunks of any length compare."""
    return (squared(error, counted) + SMALL**2).sqrt() - SMALL


def distance(name: str, error: Tensor, counted: Tensor | None = None) -> Tensor:
    """`squared` or `pseudo_huber`, [B]; name: "squared" or "huber"."""
    return squared(error, counted) if name == "squared" else pseudo_huber(error, counted)

"""Convolutions over time in fewer matrix products (Toom-Cook; Winograd, 1980).

A convolution of kernel 5 is four outputs from eight inputs: 20 products by its definition, 8 by
evaluating polynomials at 8 points, multiplying there, and interpolating (Lavin and Gray, 2016, for
images). Here a product is that of a whole matrix of channels, so the three changes of basis, which
are sums, cost little beside it:

    out = outputs @ ((weights @ w) * (inputs @ x))        * : one matrix product per row of both

Frames beyond the chunk are zero, and a chunk of up to four frames needs even fewer products.

    frames, kernel 5       4    8   16
    products, one per tap  14  34   74
    products here           7  16   32

Rounding: a few times that of the definition, 1e-6 of the outputs' size in single precision
(tests/policy/test_toom_cook.py); the points are few and near 1 for that reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

# Finite points in the order in which they are used; infinity is always the last one.
POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-1/2", "-2", "1/2")))
TILE = 4  # outputs computed together, where the kernel leaves enough points
WORTH_IT = 0.8  # of the products of the definition
Matrix = list[list[Fraction]]


@dataclass(frozen=True)
class Transform:
    """The three changes of basis for P points and n tiles.

    inputs: [P*n, T], point after point; weights: [P, K]; outputs: [T, P*n].
    """

    inputs: Tensor
    weights: Tensor
    outputs: Tensor

    @property
    def n_products(self) -> int:
        """Matrix products over one frame of all rows, P*n."""
        return len(self.inputs)

    def to(self, dtype: torch.dtype, device: torch.device) -> "Transform":
        """In another dtype, and there."""
        found = (m.to(device, dtype) for m in (self.inputs, self.weights, self.outputs))
        return Transform(*found)


@cache
def transform(frames: int, kernel_size: int) -> Transform | None:
    """For a stride of 1 that keeps the number of frames; None where nothing is saved.

    Raises ValueError for an even kernel.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}: an even kernel would shift the chunk")
    pad = kernel_size // 2
    direct = sum(max(0, frames - abs(shift)) for shift in range(-pad, pad + 1))
    found = list(_candidates(frames, kernel_size))
    best = min(found, key=lambda each: each.n_products, default=None)
    return best if best is not None and best.n_products < WORTH_IT * direct else None


@cache
def transform_for(
    frames: int, kernel_size: int, dtype: torch.dtype, device: torch.device
) -> Transform | None:
    """See `transform`: in this dtype, on this device."""
    found = transform(frames, kernel_size)
    return None if found is None else found.to(dtype, device)


def short_tiles(frames: int, kernel_size: int) -> Transform:
    """Of up to 8 frames: all at once, or in tiles of half of them, with the fewest points whose
    rounding single precision bears; for the axes of small pictures."""
    if 1 < frames <= TILE:
        return _short(frames, kernel_size)
    return _tiled(frames, kernel_size, -(-frames // 2))


def _candidates(frames: int, kernel_size: int) -> Iterator[Transform]:
    if 1 < frames <= TILE:
        yield _short(frames, kernel_size)
    tile = min(TILE, len(POINTS) + 2 - kernel_size)
    if tile > 1 and kernel_size > 1:
        yield _tiled(frames, kernel_size, tile)


def _short(frames: int, kernel_size: int) -> Transform:
    """All T frames at once, in 2T - 1 products: frames outside the chunk are known to be zero.

    With w[s] the tap of shift s, 0 beyond the kernel, the convolution is

        out[i] = sum over j of w[j - i] x[j]                    i, j = 0 .. T - 1

    Let d[m] = w[m - (T - 1)], m = 0 .. 2T - 2, and i = T - 1 - i'. Then j - i + T - 1 = i' + j and

        out[T - 1 - i'] = sum over j of d[i' + j] x[j]

    which is `_toom_cook` of T outputs and T taps with the taps as its data and the frames as its
    filter; its outputs come in the opposite order.
    """
    outputs, over_filter, over_data = _toom_cook(frames, frames)
    pad = kernel_size // 2
    shifts = range(-pad, pad + 1)
    weights = [
        [row[s + frames - 1] if abs(s) < frames else Fraction(0) for s in shifts]
        for row in over_data
    ]
    return _balanced(over_filter, weights, outputs[::-1])


def _tiled(frames: int, kernel_size: int, tile: int) -> Transform:
    """Tiles of a few outputs, each from its own window of inputs."""
    outputs, over_filter, over_data = _toom_cook(tile, kernel_size)
    n_points, n_tiles = len(over_data), -(-frames // tile)
    inputs: Matrix = [[Fraction(0)] * frames for _ in range(n_points * n_tiles)]
    spread: Matrix = [[Fraction(0)] * n_points * n_tiles for _ in range(frames)]
    for point in range(n_points):
        for at in range(n_tiles):
            column, first = point * n_tiles + at, at * tile - kernel_size // 2
            for offset in range(n_points):
                if 0 <= first + offset < frames:
                    inputs[column][first + offset] = over_data[point][offset]
            for offset in range(min(tile, frames - at * tile)):
                spread[at * tile + offset][column] = outputs[offset][point]
    return _balanced(inputs, over_filter, spread)


def _toom_cook(n_outputs: int, n_taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """(A, G, B) with  sum over k of d[i+k] w[k] = A ((G w) * (B d)),  outputs + taps - 1 points.

    The transpose of multiplying polynomials by their values at the points: A and G are transposed
    and plain Vandermonde matrices, B the transposed inverse of the square one.
    """
    n_points = n_outputs + n_taps - 1

    def powers(count: int) -> Matrix:
        finite = [[point**power for power in range(count)] for point in POINTS[: n_points - 1]]
        return [*finite, [Fraction(int(power == count - 1)) for power in range(count)]]

    return (
        _transposed(powers(n_outputs)),
        powers(n_taps),
        _transposed(_inverse(powers(n_points))),
    )


def _transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def _inverse(matrix: Matrix) -> Matrix:
    """Gauss and Jordan, exactly."""
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(size):
            if k != i and rows[k][i]:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]


def _balanced(inputs: Matrix, weights: Matrix, outputs: Matrix) -> Transform:
    """As tensors, each point's factors made equally large by powers of two, which round nothing."""
    x, w, out = (
        torch.tensor([list(map(float, row)) for row in m], dtype=torch.double)
        for m in (inputs, weights, outputs)
    )
    n_points = len(w)
    by_point = x.view(n_points, -1, x.shape[1])
    sizes = [
        by_point.flatten(1).norm(dim=1),
        w.norm(dim=1),
        out.view(len(out), n_points, -1).transpose(0, 1).flatten(1).norm(dim=1),
    ]
    wanted = (sizes[0] * sizes[1] * sizes[2]) ** (1 / 3)
    of_x, of_w = (2.0 ** torch.round(torch.log2(wanted / size)) for size in sizes[:2])
    per_column = len(x) // n_points
    return Transform(
        x * of_x.repeat_interleave(per_column)[:, None],
        w * of_w[:, None],
        out / (of_x * of_w).repeat_interleave(per_column),
    )

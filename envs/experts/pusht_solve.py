"""The table of `pusht_value`, by dynamic programming over the block's poses and all pushes.

A push moves the block by the same amount in its own frame wherever it is, so that one sweep over
all poses of one angle is a shift of the table: two minutes for 180,000 poses and 1,800 moves.
"""

import time

import numpy as np
from numpy.typing import NDArray

from dipole.envs.experts.pusht_pushes import AGENT_EDGE, PushLibrary, push_library
from dipole.envs.experts.pusht_value import (
    CELL,
    CELLS,
    CENTRE_DEPTH,
    ORIGIN,
    TABLE,
    TURNS,
    centres,
    error,
    overhang,
)
from dipole.envs.pusht_geometry import WORLD_SIZE, Floats

SWITCH_STEPS = 12.0  # going around to the next push, on average
MISS_STEPS = 3.0  # what each pixel of error at the end is worth
OUTSIDE = 120.0  # a block past the walls, or beyond the grid
IMPRECISION = 1.25  # cells and turns: 10 pixels, 9 degrees
CONVERGED = 0.5

_AXIS = ORIGIN + CELL * np.arange(CELLS)
_REACH = 24  # cells that a push can move the block by


def solve(library: PushLibrary) -> Floats:
    """Steps to go [CELLS, CELLS, TURNS]: sweeps over all poses and pushes until nothing changes."""
    poses = grid_poses()
    finish = np.minimum(MISS_STEPS * error(poses), OUTSIDE)
    outside = overhang(poses)
    wall = np.where(outside > 0, OUTSIDE + outside, 0.0)
    table, change = np.maximum(finish, wall), np.inf
    while change > CONVERGED:
        before = table
        table = np.maximum(np.minimum(sweep(blurred(table), library), finish), wall)
        change = float(np.abs(table - before).max())
        print(f"largest change {change:.2f} steps", flush=True)
    return table


def grid_poses() -> Floats:
    """The pose [CELLS, CELLS, TURNS, 3] of every entry."""
    angles = 2 * np.pi / TURNS * np.arange(TURNS)
    x, y, turn = np.meshgrid(_AXIS, _AXIS, angles, indexing="ij")
    return np.stack([x + np.sin(turn) * CENTRE_DEPTH, y - np.cos(turn) * CENTRE_DEPTH, turn], -1)


def sweep(table: Floats, library: PushLibrary) -> Floats:
    """Steps to go when the next push is the best one, and the table says what follows."""
    best = np.full((TURNS, CELLS, CELLS), OUTSIDE)
    around = ((0, 0), (_REACH, _REACH), (_REACH, _REACH))
    padded = np.pad(np.moveaxis(table, 2, 0), around, constant_values=OUTSIDE)
    centre = np.array([0.0, CENTRE_DEPTH])
    turns = library.poses[..., 2] / (2 * np.pi) * TURNS  # [P, L]
    for k in range(TURNS):
        cosine, sine = np.cos(2 * np.pi * k / TURNS), np.sin(2 * np.pi * k / TURNS)
        rotation = np.array([[cosine, sine], [-sine, cosine]])
        moves = (centres(library.poses) - centre) @ rotation / CELL  # [P, L, 2]
        starts = (library.start - centre) @ rotation  # [P, 2]
        for push, start in enumerate(starts):
            options = [
                SWITCH_STEPS + steps + _moved(padded, k + turn, *move)
                for steps, turn, move in zip(
                    library.steps[push], turns[push], moves[push], strict=True
                )
                if steps > 0
            ]
            total = np.where(_reachable(start), np.min(options, axis=0), OUTSIDE)
            best[k] = np.minimum(best[k], total)
    return np.moveaxis(best, 0, 2)


def _moved(padded: Floats, k: float, x: float, y: float) -> Floats:
    """Entries [CELLS, CELLS] at angle number k, x, y cells further on, trilinear."""
    turn, i, j = int(np.floor(k)), int(np.floor(x)), int(np.floor(y))
    k, x, y = k - turn, x - i, y - j
    rows = slice(_REACH + i, _REACH + i + CELLS + 1)
    columns = slice(_REACH + j, _REACH + j + CELLS + 1)
    low, high = padded[turn % TURNS, rows, columns], padded[(turn + 1) % TURNS, rows, columns]
    values = low * (1 - k) + high * k
    values = values[:-1] * (1 - x) + values[1:] * x
    return np.asarray(values[:, :-1] * (1 - y) + values[:, 1:] * y)


def blurred(table: Floats) -> Floats:
    """What a push is worth that ends about IMPRECISION cells, and turns, away from its plan."""
    reach = int(np.ceil(3 * IMPRECISION))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / IMPRECISION) ** 2)
    weights /= weights.sum()
    for axis, mode in ((0, "edge"), (1, "edge"), (2, "wrap")):
        width = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(table, width, mode=mode)  # type: ignore[call-overload]
        parts = [
            weight * np.take(padded, np.arange(table.shape[axis]) + i, axis=axis)
            for i, weight in enumerate(weights)
        ]
        table = np.sum(parts, axis=0)
    return table


def _reachable(start: Floats) -> NDArray[np.bool_]:
    """For which centres [CELLS, CELLS] the agent can be where a push begins, relative to them."""
    x, y = (
        (_AXIS + offset > AGENT_EDGE) & (_AXIS + offset < WORLD_SIZE - AGENT_EDGE)
        for offset in start
    )
    return np.asarray(x[:, None] & y)


if __name__ == "__main__":
    started = time.perf_counter()
    np.savez_compressed(TABLE, tenths=np.rint(solve(push_library()) * 10).astype(np.int16))
    print(f"{TABLE}, {TABLE.stat().st_size} bytes, after {time.perf_counter() - started:.0f} s")

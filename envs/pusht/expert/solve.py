"""The table of `value.py`, by dynamic programming over the block's poses and all pushes.

A push moves the block by the same amount in its own frame wherever it is, so that one sweep over
all poses of one angle is a shift of the table: two minutes for 180,000 poses and 1,800 moves.
"""

import time

import numpy as np
from numpy.typing import NDArray

from dipole.envs.pusht.expert.pushes import AGENT_EDGE, PushLibrary, push_library
from dipole.envs.pusht.expert.value import (
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
from dipole.envs.pusht.geometry import WORLD_SIZE, Floats

SWITCH_STEPS = 12.0  # going around to the next push, on average
MISS_STEPS = 3.0  # what each pixel of error at the end is worth
OUTSIDE = 120.0  # a block past the walls, or beyond the grid
CONVERGED = 0.05

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
        table = np.maximum(np.minimum(sweep(table, library), finish), wall)
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
    best = np.full_like(table, OUTSIDE)
    centre = np.array([0.0, CENTRE_DEPTH])
    turns = library.poses[..., 2] / (2 * np.pi) * TURNS  # [P, L]
    for k in range(TURNS):
        cosine, sine = np.cos(2 * np.pi * k / TURNS), np.sin(2 * np.pi * k / TURNS)
        rotation = np.array([[cosine, sine], [-sine, cosine]])
        moves = (centres(library.poses) - centre) @ rotation / CELL  # [P, L, 2]
        starts = (library.start - centre) @ rotation  # [P, 2]
        for push, length in zip(*np.nonzero(library.steps), strict=True):
            after = _turned(table, k + turns[push, length])
            steps = SWITCH_STEPS + library.steps[push, length]
            total = steps + _shifted(after, *moves[push, length])
            better = _reachable(starts[push]) & (total < best[..., k])
            best[..., k] = np.where(better, total, best[..., k])
    return best


def _reachable(start: Floats) -> NDArray[np.bool_]:
    """For which centres [CELLS, CELLS] the agent can be where a push begins, relative to them."""
    x, y = (
        (_AXIS + offset > AGENT_EDGE) & (_AXIS + offset < WORLD_SIZE - AGENT_EDGE)
        for offset in start
    )
    return np.asarray(x[:, None] & y)


def _turned(table: Floats, k: float) -> Floats:
    """The slice [CELLS, CELLS] at angle number k, between two."""
    whole = int(np.floor(k))
    part = k - whole
    return np.asarray(
        table[..., whole % TURNS] * (1 - part) + table[..., (whole + 1) % TURNS] * part
    )


def _shifted(values: Floats, x: float, y: float) -> Floats:
    """values [CELLS, CELLS] read x, y cells further on, bilinear; OUTSIDE beyond the edge."""
    padded = np.pad(values, _REACH, constant_values=OUTSIDE)
    i, j = int(np.floor(x)), int(np.floor(y))
    x, y = x - i, y - j
    padded = padded[_REACH + i : _REACH + i + CELLS + 1, _REACH + j : _REACH + j + CELLS + 1]
    rows = padded[:-1] * (1 - x) + padded[1:] * x
    return np.asarray(rows[:, :-1] * (1 - y) + rows[:, 1:] * y)


if __name__ == "__main__":
    started = time.perf_counter()
    np.savez_compressed(TABLE, tenths=np.rint(solve(push_library()) * 10).astype(np.int16))
    print(f"{TABLE}, {TABLE.stat().st_size} bytes, after {time.perf_counter() - started:.0f} s")

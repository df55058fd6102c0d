"""How many steps a pose of the block is from the goal: a table, and the error near the goal.

`python -m dipole.envs.pusht.expert.solve` computes the table in two minutes; it lies beside this
file so that an expert starts at once.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dipole.envs.pusht.geometry import GOAL_POSE, OUTLINE, WORLD_SIZE, Floats, Pose, to_world

CENTRE_DEPTH = 45.0  # of the centre of gravity, below the origin in the block's own frame
CELL, ORIGIN, CELLS = 8.0, 16.0, 61  # centres of gravity at 16, 24, ... 496 pixels
TURNS = 48  # angles, every 7.5 degrees
WALL = 9.0  # the block's corners stay this far inside 0..512
SUCCESS_ERROR = 2.5  # pixels at which success is a matter of luck
ONE_MORE_PUSH = 16.0  # steps that it takes at least, where the block is not there yet
TABLE = Path(__file__).with_name("value.npz")

_MIDDLE = OUTLINE.mean(axis=0)
_SPREAD = float(((OUTLINE - _MIDDLE) ** 2).sum(axis=1).mean())


def error(poses: Floats, goal: Pose = GOAL_POSE) -> Floats:
    """Root mean square distance [...], in pixels, of the T's corners from where a goal has them."""
    cosine, sine = np.cos(poses[..., 2]), np.sin(poses[..., 2])
    middle = to_world(goal, _MIDDLE)
    x = poses[..., 0] + cosine * _MIDDLE[0] - sine * _MIDDLE[1] - middle[0]
    y = poses[..., 1] + sine * _MIDDLE[0] + cosine * _MIDDLE[1] - middle[1]
    turn = 1.0 - (cosine * np.cos(goal[2]) + sine * np.sin(goal[2]))
    return np.asarray(np.sqrt(x * x + y * y + 2 * _SPREAD * np.maximum(turn, 0.0)))


def centres(poses: Floats) -> Floats:
    """Centres of gravity [..., 2] of blocks at poses [..., 3]."""
    cosine, sine = np.cos(poses[..., 2]), np.sin(poses[..., 2])
    x, y = poses[..., 0] - sine * CENTRE_DEPTH, poses[..., 1] + cosine * CENTRE_DEPTH
    return np.stack([x, y], axis=-1)


def overhang(poses: Floats) -> Floats:
    """How many pixels [...] the block reaches past the walls at poses [..., 3], 0 inside."""
    cosine, sine = np.cos(poses[..., 2]), np.sin(poses[..., 2])
    worst = np.zeros(poses.shape[:-1])
    for corner in OUTLINE:
        x = poses[..., 0] + cosine * corner[0] - sine * corner[1]
        y = poses[..., 1] + sine * corner[0] + cosine * corner[1]
        for coordinate in (x, y):
            past = np.maximum(WALL - coordinate, coordinate - (WORLD_SIZE - WALL))
            worst = np.maximum(worst, past)
    return worst


@dataclass(frozen=True)
class Value:
    """Steps to go, on a grid [CELLS, CELLS, TURNS] of centres of gravity x, y and angles."""

    table: Floats

    def __call__(self, poses: Floats) -> Floats:
        """Steps to go [...] from poses [..., 3]: the table's, but 0 at the goal."""
        at_goal = np.exp(-((error(poses) / SUCCESS_ERROR) ** 2))
        return np.asarray(np.maximum(self.interpolate(poses), ONE_MORE_PUSH) * (1 - at_goal))

    def interpolate(self, poses: Floats) -> Floats:
        """The table's entries [...] at poses [..., 3], trilinear."""
        cell = np.clip((centres(poses) - ORIGIN) / CELL, 0, CELLS - 1.001)
        turn = (poses[..., 2] / (2 * np.pi) * TURNS) % TURNS
        i, j, k = cell[..., 0].astype(int), cell[..., 1].astype(int), turn.astype(int)
        x, y, turn = cell[..., 0] - i, cell[..., 1] - j, turn - k
        k, above = k % TURNS, (k + 1) % TURNS
        total = np.zeros(poses.shape[:-1])
        for di, weight_x in ((0, 1 - x), (1, x)):
            for dj, weight_y in ((0, 1 - y), (1, y)):
                low, high = self.table[i + di, j + dj, k], self.table[i + di, j + dj, above]
                total += weight_x * weight_y * (low * (1 - turn) + high * turn)
        return total


@functools.cache
def value() -> Value:
    """The table beside this file; it holds tenths of steps."""
    with np.load(TABLE, allow_pickle=False) as stored:
        return Value(stored["tenths"].astype(np.float64) / 10.0)

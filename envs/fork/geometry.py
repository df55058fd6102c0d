"""The world of Fork and the paths that its demonstrations follow, in metres.

    y                goal
    ^             .-'    '-.
    |     left   (   disc   )   right       x = line(u) + side * width * sin(pi u)
    |             '-.    .-'                y = start_y + u (goal_y - start_y),   u from 0 to 1
    +--> x          start

Both sides are equally good, and their mean runs through the disc: an imitator that answers with the
mean of the demonstrations collides.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

WORLD_SIZE = 1.0
DISC = np.array([0.5, 0.5])
DISC_RADIUS = 0.12
ROBOT_RADIUS = 0.02
START = np.array([0.5, 0.1])
START_SPREAD = 0.03  # starts are uniform within so much of START, in x and in y
GOAL = np.array([0.5, 0.9])
GOAL_RADIUS = 0.03
WIDTHS = (0.24, 0.30)  # of a demonstration's arc, uniform between
PATH_STEPS = 24  # actions of a demonstration
MAX_STEP = 0.08  # metres that the robot moves in one step, at most
MODES = ("left", "right")


def path(start: Floats, side: float, width: float) -> Floats:
    """Positions [PATH_STEPS + 1, 2] of a demonstration. side: -1 left, 1 right."""
    u = np.linspace(0.0, 1.0, PATH_STEPS + 1)[:, None]
    positions: Floats = start + u * (GOAL - start)
    positions[:, 0] += side * width * np.sin(np.pi * u[:, 0])
    return positions


def collides(before: Floats, after: Floats) -> bool:
    """Whether the robot touches the disc on the straight line between two positions [2]."""
    step, length = after - before, float(np.sum((after - before) ** 2))
    share = 0.0 if length == 0 else np.clip(np.dot(DISC - before, step) / length, 0.0, 1.0)
    return bool(np.linalg.norm(before + share * step - DISC) < DISC_RADIUS + ROBOT_RADIUS)


def modes(positions: Floats) -> list[str]:
    """ "left" or "right" for each of the paths [B, H, 2]: the side on which it is when it is as far
    up as the disc's centre, or where it comes nearest to that height."""
    nearest = np.abs(positions[..., 1] - DISC[1]).argmin(-1)
    x = positions[np.arange(len(positions)), nearest, 0]
    return [MODES[int(right)] for right in x >= DISC[0]]


def path_errors(chunks: Floats, starts: Floats) -> Floats:
    """Distance of first chunks of an episode to the demonstrations from the same start, [B], rms.

    chunks: [B, H, 2], of which action k leads to frame k + 1 of a demonstration.
    starts: [B, 2].

    The nearest demonstration is found exactly: its width is a least-squares fit, clipped to WIDTHS.
    """
    u = (1 + np.arange(chunks.shape[1])) / PATH_STEPS  # [H]
    u = np.minimum(u, 1.0)
    line = starts[:, None] + u[:, None] * (GOAL - starts)[:, None]  # [B, H, 2]
    offset, arc = chunks - line, np.sin(np.pi * u)
    fit = offset[..., 0] @ arc / (arc @ arc)  # [B], negative on the left
    width = np.sign(fit) * np.clip(np.abs(fit), *WIDTHS)
    offset[..., 0] -= width[:, None] * arc
    errors: Floats = np.sqrt((offset**2).sum(-1).mean(-1))
    return errors


def mode_entropy(found: Sequence[str]) -> float:
    """Entropy of the shares of MODES in `found`: 1 for 50/50, 0 for one side alone or for none.

    >>> mode_entropy(["left", "right", "right", "left"]), mode_entropy(["left"])
    (1.0, 0.0)
    """
    counts = np.array([found.count(mode) for mode in MODES], dtype=np.float64)
    shares = counts[counts > 0] / max(counts.sum(), 1.0)
    return float(-(shares * np.log2(shares)).sum() + 0.0)

"""From a way on a grid to a smooth one, and to positions in time that a ball can follow."""

from dataclasses import dataclass

import numpy as np

from dipole.envs.maze.maps import BALL_RADIUS, Floats, MazeMap

SPACING = 0.02  # metres between points of a smooth way
ROOM = 0.06  # metres that remain between the ball and walls after smoothing


@dataclass(frozen=True)
class Motion:
    """How a way is driven.

    speed: At most, m/s. acceleration: Along the way, m/s^2. turning: Across it, m/s^2.
    """

    speed: float = 3.0
    acceleration: float = 8.0
    turning: float = 8.0


def smooth_path(
    maze: MazeMap, points: Floats, width: float, wander: Floats | None = None
) -> Floats:
    """A smooth way along points [P, 2], every 2 cm, [Q, 2], with the same ends.

    width: Standard deviation of the Gaussian that smooths, metres; less where it would touch walls.
    wander: Noise that is smoothed and added, [N, 2], metres; less of it where it would.
    """
    dense = evenly_spaced(points, SPACING)
    smooth = dense
    for _ in range(5):
        smooth = _smoothed(dense, width / SPACING)
        if _has_room(maze, smooth):
            break
        width /= 2
    if wander is not None:
        offset = _wandering(wander, len(smooth))
        for share in (1.0, 0.5, 0.25):
            if _has_room(maze, smooth + share * offset):
                smooth = smooth + share * offset
                break
    return evenly_spaced(smooth, SPACING)


def evenly_spaced(points: Floats, spacing: float) -> Floats:
    """Points [P, 2] along their polyline, about `spacing` apart, [Q, 2], with the same ends."""
    along = distances(points)
    wanted = np.linspace(0.0, along[-1], max(2, round(along[-1] / spacing) + 1))
    return np.stack([np.interp(wanted, along, points[:, axis]) for axis in (0, 1)], -1)


def distances(points: Floats) -> Floats:
    """From the first of points [P, 2] along their polyline to each, metres, [P]."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def speeds(points: Floats, motion: Motion) -> Floats:
    """How fast each of the points [Q, 2] may be passed, m/s, [Q]: standing still at the end."""
    along = distances(points)
    headings = np.unwrap(np.arctan2(*np.gradient(points, axis=0).T[::-1]))
    curvature = np.abs(np.gradient(headings) / np.maximum(np.gradient(along), 1e-9))
    curvature = np.convolve(curvature, np.full(9, 1 / 9), mode="same")
    limits = np.minimum(motion.speed, np.sqrt(motion.turning / np.maximum(curvature, 1e-6)))
    limits[-1] = 0.0
    for i in range(len(limits) - 2, -1, -1):  # late enough to brake
        limits[i] = min(limits[i], _after(limits[i + 1], along[i + 1] - along[i], motion))
    return limits


def advance(
    position: float, speed: float, seconds: float, along: Floats, limits: Floats, motion: Motion
) -> tuple[float, float]:
    """Where on the way (metres) and how fast (m/s) one is `seconds` later, within the limits."""
    allowed = float(np.interp(position + speed * seconds, along, limits))
    faster = min(speed + motion.acceleration * seconds, max(allowed, 0.1))
    return min(position + (speed + faster) / 2 * seconds, float(along[-1])), faster


def _after(speed: float, metres: float, motion: Motion) -> float:
    return float(np.sqrt(speed**2 + 2 * motion.acceleration * metres))


def _smoothed(points: Floats, deviation: float) -> Floats:
    """Gaussian smoothing that keeps the ends: beyond them the points are mirrored through them."""
    reach = min(int(3 * deviation), len(points) - 1)
    if reach < 1:
        return points
    before = 2 * points[0] - points[reach:0:-1]
    after = 2 * points[-1] - points[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, points, after])
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in (0, 1)], -1)


def _wandering(noise: Floats, length: int) -> Floats:
    """Noise [N, 2] spread over a way of `length` points and smooth, [length, 2], 0 at its ends."""
    places = np.linspace(0, len(noise) - 1, length)
    spread = np.stack([np.interp(places, np.arange(len(noise)), n) for n in noise.T], -1)
    fade = np.minimum(1.0, np.minimum(np.arange(length), np.arange(length)[::-1]) / 25)
    return _smoothed(spread * fade[:, None], 8.0) * fade[:, None]


def _has_room(maze: MazeMap, points: Floats) -> bool:
    return bool(maze.clearance(points).min() >= BALL_RADIUS + ROOM)

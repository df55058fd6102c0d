"""Ways around the block for the agent, in the block's own frame.

A ring is drawn around the block at a safe distance, and the shortest ways between its points are
known beforehand (straight across where nothing is in between): the rest is a look-up.
"""

import functools
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from dipole.envs.pusht.geometry import AGENT_RADIUS, OUTLINE, Floats

CLEARANCE = 13.0  # pixels between the agent and the block on its way
RING_POINTS = 72


@dataclass(frozen=True)
class Ring:
    """R points around the block, and the shortest ways between them that do not touch it.

    points [R, 2]. distance [R, R]. after [R, R]: the next point on the way from one to another.
    """

    points: Floats
    distance: Floats
    after: NDArray[np.int64]
    keep_out: shapely.Polygon

    def visible(self, point: Floats) -> NDArray[np.bool_]:
        """Which ring points [R] can be reached from a point outside the ring in a straight line."""
        lines = shapely.linestrings(
            np.stack([np.broadcast_to(point, self.points.shape), self.points], 1)
        )
        return ~np.asarray(shapely.intersects(self.keep_out, lines))

    def nearest(self, points: Floats) -> NDArray[np.int64]:
        """Index of the ring point nearest to each of points [..., 2]."""
        gaps = np.linalg.norm(points[..., None, :] - self.points, axis=-1)
        return np.asarray(gaps.argmin(axis=-1))

    def from_point(self, point: Floats) -> Floats:
        """Length of the shortest way from a point to every ring point [R]."""
        if shapely.contains_xy(self.keep_out, *point):
            exit_point = self.nearest(point)
            return self.distance[exit_point] + np.linalg.norm(point - self.points[exit_point])
        straight = np.linalg.norm(self.points - point, axis=1)
        straight = np.where(self.visible(point), straight, np.inf)
        return np.asarray((straight[:, None] + self.distance).min(axis=0))

    def way(self, point: Floats, goal: int) -> Floats:
        """Corners [K, 2] of the shortest way from a point, itself left out, to a ring point."""
        if shapely.contains_xy(self.keep_out, *point):
            index = int(self.nearest(point))
        else:
            straight = np.linalg.norm(self.points - point, axis=1)
            straight = np.where(self.visible(point), straight, np.inf)
            index = int((straight + self.distance[:, goal]).argmin())
        corners = [index]
        while index != goal:
            index = int(self.after[index, goal])
            corners.append(index)
        return self.points[corners]


@functools.cache
def ring() -> Ring:
    """The ring around the T, and all shortest ways (Floyd and Warshall)."""
    block = shapely.Polygon(OUTLINE)
    line = block.buffer(AGENT_RADIUS + CLEARANCE, quad_segs=32).exterior
    points = np.array(
        [
            line.interpolate(d).coords[0]
            for d in np.linspace(0, line.length, RING_POINTS, endpoint=False)
        ]
    )
    keep_out = block.buffer(AGENT_RADIUS + CLEARANCE - 1.5, quad_segs=8)
    shapely.prepare(keep_out)
    lines = shapely.linestrings(
        np.stack(np.broadcast_arrays(points[:, None], points[None]), axis=2)
    )
    free = ~shapely.intersects(keep_out, lines)
    distance = np.where(free, np.linalg.norm(points[:, None] - points[None], axis=-1), np.inf)
    after = np.broadcast_to(np.arange(RING_POINTS), distance.shape).copy()
    for middle in range(RING_POINTS):
        through = distance[:, middle, None] + distance[None, middle]
        shorter = through < distance - 1e-9
        distance = np.where(shorter, through, distance)
        after = np.where(shorter, after[:, middle, None], after)
    return Ring(points, distance, after, keep_out)

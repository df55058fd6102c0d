"""Shortest ways through a maze with room for the ball: A* on a fine grid (Hart et al., 1968)."""

import heapq
import math
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from dipole.envs.maze.maps import BALL_RADIUS, Floats, MazeMap

RESOLUTION = 0.125  # metres between nodes: eight to a cell
MARGIN = 0.1  # metres that the ball keeps from walls, at least
COMFORT = 0.4  # metres from a wall below which a way costs more
DEAREST = 3.0  # by how much more, at a wall
MOVES = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]

Node = tuple[int, int]


def find_path(maze: MazeMap, start: Floats, goal: Floats, dearer: Floats | None = None) -> Floats:
    """The cheapest way from start [2] to goal [2], [P, 2], both ends included.

    It keeps `MARGIN` from walls and costs more near them, so that it turns round corners in a bow.

    dearer: By which factor each of the maze's cells costs more, [rows, columns], so that another of
        several ways of about the same length may be the cheapest.
    Raises ValueError where there is no way.
    """
    costs = _costs(maze)
    if dearer is not None:
        costs = costs * np.kron(dearer, np.ones((_nodes_of(1.0),) * 2))
    first, last = _nearest(maze, start), _nearest(maze, goal)
    nodes = _search(costs, first, last)
    inner = [_point(maze, node) for node in nodes[1:-1]]
    return np.array([start, *inner, goal])


def _search(costs: NDArray[np.float64], first: Node, last: Node) -> list[Node]:
    """Nodes from the first to the last, the cheapest way; A* with the straight distance."""
    table = costs.tolist()  # plain numbers: three times as fast in a loop of Python
    order = count()
    waiting = [(0.0, next(order), first, first)]
    spent = {first: 0.0}
    before: dict[Node, Node] = {}
    while waiting:
        _, _, node, came_from = heapq.heappop(waiting)
        if node in before:
            continue
        before[node] = came_from
        if node == last:
            return _traced(before, last)
        for i, j in MOVES:
            other = (node[0] + i, node[1] + j)
            if table[other[0]][other[1]] == math.inf or other in before:
                continue
            mean = (table[node[0]][node[1]] + table[other[0]][other[1]]) / 2
            total = spent[node] + mean * math.hypot(i, j)
            if total < spent.get(other, math.inf):
                spent[other] = total
                left = math.hypot(other[0] - last[0], other[1] - last[1])
                heapq.heappush(waiting, (total + left, next(order), other, node))
    raise ValueError(f"no way leads from {first} to {last}")


def _traced(before: dict[Node, Node], last: Node) -> list[Node]:
    found = [last]
    while before[found[-1]] != found[-1]:
        found.append(before[found[-1]])
    return found[::-1]


@lru_cache(maxsize=8)
def _costs(maze: MazeMap) -> NDArray[np.float64]:
    """Of a metre at each node, [rows, columns], at least 1; infinite where no ball fits."""
    rows, columns = _nodes_of(maze.height), _nodes_of(maze.width)
    points = np.array([[_point(maze, (i, j)) for j in range(columns)] for i in range(rows)])
    clearance = maze.clearance(points) - BALL_RADIUS
    near = np.clip((COMFORT - clearance) / COMFORT, 0, 1)
    return np.where(clearance < MARGIN, math.inf, 1 + DEAREST * near**2)


def _nodes_of(metres: float) -> int:
    return round(metres / RESOLUTION)


def _point(maze: MazeMap, node: Node) -> Floats:
    row, column = node
    x, y = (column + 0.5) * RESOLUTION, (row + 0.5) * RESOLUTION
    return np.array([x - maze.width / 2, maze.height / 2 - y])


def _nearest(maze: MazeMap, point: Floats) -> Node:
    """The nearest node where a ball fits."""
    costs = _costs(maze)
    row = (maze.height / 2 - point[1]) / RESOLUTION - 0.5
    column = (point[0] + maze.width / 2) / RESOLUTION - 0.5
    i, j = np.nonzero(np.isfinite(costs))
    best = int(np.argmin((i - row) ** 2 + (j - column) ** 2))
    return int(i[best]), int(j[best])

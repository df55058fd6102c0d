"""Ways through a maze: they lead there, keep away from walls, and can be driven."""

import numpy as np
import pytest

from dipole.envs.maze.drawing import draw, picture_size, to_pixels
from dipole.envs.maze.maps import BALL_RADIUS, LAYOUTS, MazeMap
from dipole.envs.maze.path import Motion, advance, distances, smooth_path, speeds
from dipole.envs.maze.search import find_path


def ends(maze, first=0, last=-1):
    return maze.centre(maze.free_cells[first]), maze.centre(maze.free_cells[last])


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_way_leads_from_start_to_goal_and_keeps_away_from_walls(name):
    maze = MazeMap.named(name)
    start, goal = ends(maze)
    way = smooth_path(maze, find_path(maze, start, goal), 0.2)
    assert np.allclose(way[[0, -1]], [start, goal])
    assert maze.clearance(way).min() > BALL_RADIUS + 0.05
    assert np.linalg.norm(np.diff(way, axis=0), axis=1).max() < 0.03


def test_the_way_through_the_u_is_about_as_long_as_it_has_to_be():
    maze = MazeMap.named("umaze")
    way = smooth_path(maze, find_path(maze, *ends(maze, last=-3)), 0.2)
    assert 4.5 < distances(way)[-1] < 6.0  # by cell centres 6 m, around corners less


def test_of_ways_of_the_same_length_the_dearer_cells_decide():
    maze = MazeMap.named("open")
    start, goal = maze.centre((2, 1)), maze.centre((2, 5))
    for row, side in ((1, -1), (3, 1)):  # the way above the middle, or the one below, is dear
        dearer = np.ones((5, 7))
        dearer[[2, row]] = 3.0
        assert np.sign(find_path(maze, start, goal, dearer)[:, 1].mean()) == side


def test_noise_of_a_way_leaves_its_ends_and_the_room_beside_walls():
    maze = MazeMap.named("umaze")
    start, goal = ends(maze)
    found = find_path(maze, start, goal)
    noise = np.random.default_rng(0).normal(0, 0.1, (64, 2))
    way, other = smooth_path(maze, found, 0.2), smooth_path(maze, found, 0.2, noise)
    assert np.allclose(other[[0, -1]], [start, goal])
    assert maze.clearance(other).min() > BALL_RADIUS + 0.05
    middle = len(way) // 2
    assert 0.001 < np.linalg.norm(other - way[middle], axis=1).min() < 0.3


def test_a_way_is_driven_within_its_limits_and_ends_standing():
    maze = MazeMap.named("umaze")
    way, motion = smooth_path(maze, find_path(maze, *ends(maze)), 0.2), Motion(3.0, 8.0, 8.0)
    along, limits = distances(way), speeds(way, motion)
    assert limits.max() <= 3.0
    assert limits[-1] == 0.0
    at, speed, times = 0.0, 0.0, 0
    while at < along[-1] - 0.05 and times < 100:
        before = speed
        at, speed = advance(at, speed, 0.1, along, limits, motion)
        assert speed <= before + 0.8 + 1e-9
        times += 1
    assert 1.7 < 0.1 * times < 4.0


def test_cells_walls_and_pixels_agree():
    maze = MazeMap.named("umaze")
    assert maze.centre((1, 1)).tolist() == [-1.0, 1.0]
    assert maze.is_free((2, 3))
    assert not maze.is_free((2, 2))
    assert not maze.is_free((9, 9))
    assert maze.clearance(np.array([[-1.0, 1.0], [0.0, 0.0]])).tolist() == [0.5, 0.0]
    width, height = picture_size(maze, 100)
    scene = draw(maze, maze.centre((1, 1)), [maze.centre((1, 3))], None, (width, height))
    for cell, colour in (((0, 0), "wall"), ((2, 2), "wall"), ((1, 1), "goal"), ((3, 1), "floor")):
        x, y = to_pixels(maze.centre(cell), maze, width, height).astype(int)
        wanted = {"wall": [119, 136, 153], "goal": [144, 238, 144], "floor": [255, 255, 255]}
        assert scene[y, x].tolist() == wanted[colour]

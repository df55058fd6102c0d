"""Draws Push-T as gym-pusht does, pixel for pixel, in a tenth of the time.

gym-pusht draws a scene of 512 x 512 anew and shrinks a copy of a copy of it. Here what never moves
is drawn once, the block and the agent on top of it, and the drawing's own memory is shrunk straight
to the size asked for, by the same function.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import pygame
import pymunk
from numpy.typing import NDArray
from pymunk.space_debug_draw_options import SpaceDebugColor

from dipole.envs.pusht.geometry import AGENT_RADIUS, GOAL_POSE, Floats
from dipole.envs.pusht.physics import WALL_RADIUS, WALLS, PushWorld, place

Image = NDArray[np.uint8]
Point = tuple[int, int]

CANVAS = 512
EDGE = 2  # half the width of the block's outline
WHITE, GOAL, WALL, CROSS = (255, 255, 255), (144, 238, 144), (211, 211, 211), (255, 0, 0)
BLOCK, BLOCK_INSIDE = (119, 136, 153), (143, 163, 184)  # light slate grey, and 1.2 times that
AGENT, AGENT_INSIDE = (65, 105, 225), (78, 126, 255)  # royal blue, and 1.2 times that


class Drawing:
    """A canvas for one world after another. Images are [size, size, 3] uint8, y down."""

    def __init__(self) -> None:
        self._canvas = pygame.Surface((CANVAS, CANVAS), depth=32)
        self._contacts = _Contacts(self._canvas)

    def draw(self, world: PushWorld, size: int) -> Image:
        """The scene as it stands.

        The one difference from gym-pusht: it shows the block where the last step of the physics
        left it, also after a state has been set; this shows it where it is.
        """
        canvas = self._canvas
        background, walls = _scenery()
        canvas.blit(background, (0, 0))
        for rectangle in world.rectangles:
            _draw_rectangle(canvas, _corners(world.block, rectangle))
        centre = _pixel(world.agent.position)
        pygame.draw.circle(canvas, AGENT, centre, round(AGENT_RADIUS))
        pygame.draw.circle(canvas, AGENT_INSIDE, centre, round(AGENT_RADIUS - 4))
        canvas.blit(walls, (0, 0))
        world.space.debug_draw(self._contacts)
        memory = memoryview(canvas.get_buffer())  # type: ignore[arg-type]
        pixels = np.frombuffer(memory, np.uint8).reshape(CANVAS, CANVAS, 4)
        image: Image = cv2.cvtColor(cv2.resize(pixels, (size, size)), cv2.COLOR_BGRA2RGB)
        return image


def draw_cross(image: Image, target: Floats) -> None:
    """Mark a target position [2] in an image of the scene, in place."""
    size = len(image)
    x, y = (target / CANVAS * size).astype(np.int32)
    length, thickness = int(8 / 96 * size), max(1, int(1 / 96 * size))
    cv2.drawMarker(image, (int(x), int(y)), CROSS, cv2.MARKER_CROSS, length, thickness)


class _Contacts(pymunk.SpaceDebugDrawOptions):  # type: ignore[misc]
    """Lets Chipmunk draw a short red line where the agent touches the block, and nothing else."""

    def __init__(self, canvas: pygame.Surface) -> None:
        super().__init__()
        self.flags = pymunk.SpaceDebugDrawOptions.DRAW_COLLISION_POINTS
        self._canvas = canvas

    def draw_segment(self, a: pymunk.Vec2d, b: pymunk.Vec2d, color: SpaceDebugColor) -> None:
        pygame.draw.aalines(self._canvas, color.as_int(), False, [_pixel(a), _pixel(b)])


@functools.cache
def _scenery() -> tuple[pygame.Surface, pygame.Surface]:
    """What lies under agent and block (the goal), and what lies over them (the walls)."""
    background, walls = (pygame.Surface((CANVAS, CANVAS), depth=32) for _ in range(2))
    background.fill(WHITE)
    world = PushWorld(walls=False)
    place(world.agent, world.block, np.zeros(2), GOAL_POSE)
    for rectangle in world.rectangles:
        pygame.draw.polygon(background, GOAL, _corners(world.block, rectangle))
    for start, end in WALLS:
        _draw_thick_line(walls, WALL, start, end, WALL_RADIUS)
        for corner in (start, end):
            pygame.draw.circle(walls, WALL, corner, WALL_RADIUS)
    walls.set_colorkey((0, 0, 0), pygame.RLEACCEL)
    return background, walls


def _pixel(point: Sequence[float]) -> Point:
    return round(point[0]), round(point[1])


def _corners(body: pymunk.Body, rectangle: list[pymunk.Vec2d]) -> list[Point]:
    return [_pixel(body.local_to_world(corner)) for corner in rectangle]


def _draw_rectangle(canvas: pygame.Surface, corners: list[Point]) -> None:
    pygame.draw.polygon(canvas, BLOCK_INSIDE, corners)
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        _draw_thick_line(canvas, BLOCK, start, end, EDGE)
        pygame.draw.circle(canvas, BLOCK, start, EDGE)


def _draw_thick_line(
    canvas: pygame.Surface,
    color: tuple[int, int, int],
    start: Point,
    end: Point,
    radius: int,
) -> None:
    """As gym-pusht does, down to a polygon that is only sometimes parallel to the line."""
    pygame.draw.line(canvas, color, start, end, 2 * radius)
    right, down = abs(end[1] - start[1]), abs(end[0] - start[0])
    scale = radius / (right * right + down * down) ** 0.5
    right, down = round(right * scale), round(down * scale)
    outline = [
        (start[0] - right, start[1] - down),
        (start[0] + right, start[1] + down),
        (end[0] + right, end[1] + down),
        (end[0] - right, end[1] - down),
    ]
    pygame.draw.polygon(canvas, color, outline)

"""A library of pushes in the block's own frame, simulated once and looked up ever after.

The block stops when nothing pushes it and the floor is the same everywhere, so that what a push
does depends neither on where the block stands nor on how it is turned: one simulation serves all.
"""

import functools
from dataclasses import dataclass

import numpy as np
import shapely

from dipole.envs.pusht.geometry import AGENT_RADIUS, OUTLINE, Floats
from dipole.envs.pusht.physics import SUBSTEPS, PushWorld

LOOKAHEAD = 22.0  # the agent chases a point this far ahead: 11 pixels a step once it moves evenly
APPROACH_GAP = 7.0  # a push begins this far from the block
AGENT_EDGE = 6.0  # the agent does not feel the walls, but its targets end at 0 and 512
CONTACT_SPACING = 8.0
ANGLES = np.deg2rad([-25.0, 0.0, 25.0])  # to the side's normal
LENGTHS = np.array([2.0, 5, 8, 12, 16, 22, 30, 40, 52, 66, 82, 100, 120, 145])

_STEPS = 40  # long enough for the longest push
_IDLE_SUBSTEPS = 5  # contact may flicker; this long without it is the end


@dataclass(frozen=True)
class PushLibrary:
    """P pushes, each with L lengths, in the frame of the block before the push.

    start [P, 2]: agent at the beginning, APPROACH_GAP from contact. direction [P, 2]: unit.
    poses [P, L, 3]: block (x, y, angle) afterwards. ends [P, L, 2]: agent afterwards.
    steps [P, L]: environment steps it takes; 0 where contact ends before this length.
    """

    start: Floats
    direction: Floats
    poses: Floats
    ends: Floats
    steps: Floats


@functools.cache
def push_library() -> PushLibrary:
    """Simulate every push once; about a second."""
    rows = []
    for centre, normal in zip(*contact_points(), strict=True):
        for angle in ANGLES:
            direction, start = rotated(normal, angle), centre - normal * APPROACH_GAP
            result = simulate_push(start, direction)
            if result is not None:
                rows.append((start, direction, *result))
    return PushLibrary(*(np.array(column) for column in zip(*rows, strict=True)))


def contact_points() -> tuple[Floats, Floats]:
    """Agent centres that touch the block [N, 2], and the inward normals there [N, 2].

    On flat sides, and in the two pockets between bar and stem: at a convex corner the agent slips.
    """
    block = shapely.Polygon(OUTLINE)
    ring = block.buffer(AGENT_RADIUS, quad_segs=64).exterior
    centres, normals = [], []
    for distance in np.linspace(
        0, ring.length, int(ring.length // CONTACT_SPACING), endpoint=False
    ):
        centre = np.array(ring.interpolate(distance).coords[0])
        side = block.exterior
        touch = np.array(side.interpolate(side.project(shapely.Point(centre))).coords[0])
        if np.linalg.norm(OUTLINE - touch, axis=1).min() > 3.0:
            centres.append(centre)
            normals.append((touch - centre) / AGENT_RADIUS)
    for side_of_stem in (-1.0, 1.0):
        centres.append(np.array([side_of_stem * (15 + AGENT_RADIUS), 30 + AGENT_RADIUS]))
        normals.append(np.array([-side_of_stem, -1.0]) / np.sqrt(2))
    return np.array(centres), np.array(normals)


def rotated(vector: Floats, angle: float) -> Floats:
    """A vector [2] turned by an angle."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([cosine * vector[0] - sine * vector[1], sine * vector[0] + cosine * vector[1]])


def simulate_push(start: Floats, direction: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Poses [L, 3], agent ends [L, 2] and steps [L] at LENGTHS past contact; None without any."""
    world = PushWorld(walls=False)
    world.set(start, direction * LOOKAHEAD * 2.5, np.zeros(3))
    poses, agents = _push(world, direction)
    moved = np.abs(np.diff(poses, axis=0)).max(axis=1) > 1e-9
    if not moved.any():
        return None
    first, last = int(np.argmax(moved)), int(np.flatnonzero(moved)[-1]) + 1
    idle = np.convolve(~moved[first:], np.ones(_IDLE_SUBSTEPS), "valid") == _IDLE_SUBSTEPS
    if idle.any():
        last = first + int(np.argmax(idle))
    travelled = (agents - start) @ direction
    index = np.searchsorted(travelled, travelled[first] + LENGTHS)
    index = np.where(index > last, 0, index)
    return poses[index], agents[index], index / SUBSTEPS


def _push(world: PushWorld, direction: Floats) -> tuple[Floats, Floats]:
    """Block poses and agent positions at every sub-step of a push without end."""
    poses, agents = [world.pose], [world.agent_position]
    for _ in range(_STEPS):
        target = world.agent_position + direction * LOOKAHEAD
        for _ in range(SUBSTEPS):
            world.step(target, 1)
            poses.append(world.pose)
            agents.append(world.agent_position)
    return np.array(poses), np.array(agents)

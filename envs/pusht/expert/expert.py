"""An expert for Push-T that plans pushes in the physics.

It looks up which push brings the block home soonest, goes around the block to where that push
begins, and steers it by simulating, at every step, how it would go on in a copy of the world.
"""

from collections.abc import Mapping

import numpy as np
import shapely

from dipole.envs.pusht.expert.path import CLEARANCE
from dipole.envs.pusht.expert.plan import HORIZON, ROLLS_PER_STEP, Planner, Push, least_move, roll
from dipole.envs.pusht.expert.pushes import LOOKAHEAD, rotated
from dipole.envs.pusht.expert.value import error
from dipole.envs.pusht.geometry import WORLD_SIZE, Floats, to_block, to_world

TRAVEL_LOOKAHEAD = 36.0  # 18 pixels a step
ENTRY_LOOKAHEAD = 18.0
STEERING = np.deg2rad([-20.0, -8.0, 0.0, 8.0, 20.0])
STEERING_STEPS = 2.0  # what a radian of steering has to be worth
STEERING_SOFTNESS = 0.5  # steps by which directions may differ and still be mixed
COAST = 1  # simulated poses, 0.02 s, that the agent needs to stop
MOVED = 5.0  # pixels of the block after which a failed push is worth another try


class PushTExpert:
    """Acts on "state" [5]: one target position [2] per step. `reset` before each episode."""

    def __init__(self) -> None:
        self.planner = Planner()
        self.reset(seed=0)

    def reset(self, seed: int) -> None:
        """Forget the last episode. The expert is deterministic: the seed changes nothing."""
        self.planner.forget()
        self._push: Push | None = None
        self._pushing = False
        self._agent: Floats | None = None
        self._velocity = np.zeros(2)
        self._planned_at = np.zeros(3)
        self._failed: list[int] = []  # pushes that came to nothing where the block is
        self._horizon = HORIZON

    def act(self, observation: Mapping[str, Floats]) -> Floats:
        """The target [2] for an observation with "state" (agent x, y, block x, y, angle)."""
        state = np.asarray(observation["state"], dtype=np.float64)
        agent, pose = state[:2], state[2:]
        if self._agent is not None:
            self._velocity = velocity_after(agent - self._agent, self._velocity)
        self._agent = agent
        push = self._push or self._plan(agent, pose)
        self._pushing = self._pushing or at_start(agent, push)
        target = self._steer(agent, pose, push) if self._pushing else None
        if target is None:
            if self._pushing:
                push = self._plan(agent, pose)
            target = self._travel(agent, pose, push)
        return np.clip(target, 0.0, WORLD_SIZE)

    def _plan(self, agent: Floats, pose: Floats) -> Push:
        if error(pose, self._planned_at) > MOVED:
            self._failed = []
        self._push = self.planner.plan(agent, pose, self._failed)
        self._pushing, self._horizon, self._planned_at = False, HORIZON, pose
        return self._push

    def _travel(self, agent: Floats, pose: Floats, push: Push) -> Floats:
        """A point ahead on the way around the block and into the push."""
        ring = self.planner.ring
        local = to_block(pose, agent)
        entry = np.stack([push.start, push.start + push.direction * LOOKAHEAD])
        straight = shapely.LineString([local, to_block(pose, push.start)])
        if shapely.intersects(ring.keep_out, straight):
            entry = np.concatenate([to_world(pose, ring.way(local, push.gate)), entry])
        legs = np.diff(np.concatenate([agent[None], entry[:-1]]), axis=0)
        remaining = float(np.linalg.norm(legs, axis=1).sum())
        lookahead = min(ENTRY_LOOKAHEAD + 0.4 * remaining, TRAVEL_LOOKAHEAD)
        return point_along(agent, entry, lookahead)

    def _steer(self, agent: Floats, pose: Floats, push: Push) -> Floats | None:
        """The next target of the push; None when the push should end here."""
        costs = np.stack([self._costs(agent, pose, rotated(push.direction, a)) for a in STEERING])
        best = costs.min(axis=1) + STEERING_STEPS * np.abs(STEERING)  # [directions]
        if not np.isfinite(best).any():
            self._failed.append(push.index)
            return None
        stop = int(costs[best.argmin()].argmin())
        if stop <= 1:
            return None
        self._horizon = min(HORIZON, stop // ROLLS_PER_STEP + 3)
        weights = np.exp(-(best - best.min()) / STEERING_SOFTNESS)
        direction = rotated(push.direction, float(weights @ STEERING / weights.sum()))
        return np.asarray(agent + direction * LOOKAHEAD * min(1.0, stop / ROLLS_PER_STEP))

    def _costs(self, agent: Floats, pose: Floats, direction: Floats) -> Floats:
        """Steps in all when a push in this direction ends now, in 0.02 s, in 0.04 s, ..."""
        world = self.planner.world
        poses = roll(world, agent, self._velocity, pose, direction, self._horizon)[COAST:]
        steps = np.arange(len(poses)) / ROLLS_PER_STEP + self.planner.value(poses)
        enough = error(poses, self._planned_at) > least_move(self._planned_at)
        return np.where(enough, steps, np.inf)


def at_start(agent: Floats, push: Push) -> bool:
    """Whether the agent is on the line of a push, close enough to begin it."""
    along = float((agent - push.start) @ push.direction)
    across = agent - push.start - along * push.direction
    return along > -(CLEARANCE + 4.0) and float(np.linalg.norm(across)) < 4.0


def point_along(start: Floats, corners: Floats, distance: float) -> Floats:
    """The point `distance` pixels along the way from start over corners [K, 2], or its end."""
    here = start
    for corner in corners:
        length = float(np.linalg.norm(corner - here))
        if length >= distance:
            return np.asarray(here + (corner - here) * (distance / length))
        distance -= length
        here = corner
    return here


def velocity_after(move: Floats, velocity: Floats) -> Floats:
    """The agent's velocity [2], pixels a second, after a step by `move` that began at `velocity`.

    The agent is a critically damped spring of 10/s that chases one target for 0.1 s: which one
    follows from the move.
    """
    decay = np.exp(-1.0)
    pull = 10.0 * decay / (1 - 2 * decay)
    return np.asarray(pull * (move - 0.1 * decay * velocity))

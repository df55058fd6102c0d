"""Which push to make next: the one after which, with another, the block is soonest at the goal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dipole.envs.pusht.expert.path import CLEARANCE, ring
from dipole.envs.pusht.expert.pushes import AGENT_EDGE, APPROACH_GAP, LOOKAHEAD, push_library
from dipole.envs.pusht.expert.value import error, overhang, value
from dipole.envs.pusht.geometry import WORLD_SIZE, Floats, to_block, to_world
from dipole.envs.pusht.physics import PushWorld

TRAVEL_SPEED = 16.0  # pixels a step on the way to a push
TURN_STEPS = 2.0  # from the way into the push
ENTRY_SPEED = 60.0  # pixels a second where a push begins
HORIZON = 14  # steps a push lasts at most
ROLL_SUBSTEPS = 2  # between two poses of a simulated push
ROLLS_PER_STEP = 5
BEAM = 32  # pushes after which a second one is looked up
TRIES = 6  # pushes that are simulated


@dataclass(frozen=True)
class Push:
    """One push in the world: it begins at `start`, the way there ends at ring point `gate`."""

    index: int
    start: Floats
    direction: Floats
    gate: int


def roll(
    world: PushWorld, agent: Floats, velocity: Floats, pose: Floats, direction: Floats, steps: int
) -> Floats:
    """Block poses [steps * 5 + 1, 3], every 0.02 s, while the agent pushes on in one direction."""
    world.set(agent, velocity, pose)
    block, poses = world.block, [tuple(pose)]
    for _ in range(steps):
        target = world.agent_position + direction * LOOKAHEAD
        for _ in range(ROLLS_PER_STEP):
            world.step(target, ROLL_SUBSTEPS)
            poses.append((*block.position, block.angle))
    return np.array(poses)


def after_push(poses: Floats, moves: Floats) -> Floats:
    """Poses [N, 3] followed by moves [M, 3] in the block's frame: [N, M, 3]."""
    poses = poses[:, None]
    cosine, sine = np.cos(poses[..., 2]), np.sin(poses[..., 2])
    x = poses[..., 0] + cosine * moves[..., 0] - sine * moves[..., 1]
    y = poses[..., 1] + sine * moves[..., 0] + cosine * moves[..., 1]
    return np.stack([x, y, poses[..., 2] + moves[..., 2]], axis=-1)


def least_move(pose: Floats) -> float:
    """Pixels that a push must move the block by: far from the goal a touch is not worth the way."""
    return float(np.clip(0.3 * error(pose), 0.5, 10.0))


class Planner:
    """Looks up two pushes, asks the value table about the rest, and simulates the most promising.

    P pushes, M = P * L moves: a push of one length.
    """

    def __init__(self) -> None:
        self.ring, self.library, self.value = ring(), push_library(), value()
        self.world = PushWorld()
        library = self.library
        back = library.start - library.direction * (CLEARANCE - APPROACH_GAP + 2.0)
        self.gate: NDArray[np.int64] = self.ring.nearest(back)  # [P]
        self.entry = np.linalg.norm(self.ring.points[self.gate] - library.start, axis=1)  # [P]
        self.lengths = library.steps.shape[1]
        self.moves = library.poses.reshape(-1, 3)  # [M, 3]
        steps = np.where(library.steps > 0, library.steps, np.inf)
        self.steps = steps.reshape(-1) + TURN_STEPS  # [M]
        self.change = self._change()  # [M, P]

    def forget(self) -> None:
        """A fresh world: contacts that the physics remembers must not reach another episode."""
        self.world = PushWorld()

    def plan(self, agent: Floats, pose: Floats, failed: Sequence[int] = ()) -> Push:
        """The best push for an agent [2] and a block at pose [3], none of those that failed."""
        way = (self.ring.from_point(to_block(pose, agent))[self.gate] + self.entry) / TRAVEL_SPEED
        way[list(failed)] = np.inf
        total, outcomes = self._totals(np.zeros(1), pose[None], way[None])
        total = np.where(overhang(outcomes) <= overhang(pose), total, np.inf)
        beam = np.argsort(total[0], kind="stable")[:BEAM]
        alone, outcomes = total[0, beam], outcomes[0, beam]
        pairs, _ = self._totals(alone - self.value(outcomes), outcomes, self.change[beam])
        possible, saved = np.isfinite(alone), np.zeros(len(alone))
        saved[possible] = np.minimum(pairs.min(axis=1)[possible] - alone[possible], 0.0)
        order = np.argsort(alone + saved, kind="stable")
        pushes = beam[order] // self.lengths
        tried = np.sort(np.unique(pushes, return_index=True)[1])[:TRIES]
        results = [
            way[push] + self._simulate(pose, int(push)) + saved[order][index]
            for index, push in zip(tried, pushes[tried], strict=True)
        ]
        return self._push(pose, int(pushes[tried[int(np.argmin(results))]]))

    def _change(self) -> Floats:
        """Steps [M, P] on the way from the end of every move to the start of every push."""
        ends = self.library.ends.reshape(-1, 2)
        ends = np.stack([to_block(p, e) for p, e in zip(self.moves, ends, strict=True)])
        exits = self.ring.nearest(ends)
        leave = np.linalg.norm(self.ring.points[exits] - ends, axis=1)[:, None]
        around = self.ring.distance[exits][:, self.gate]
        return np.asarray((leave + around + self.entry) / TRAVEL_SPEED)

    def _totals(self, spent: Floats, poses: Floats, travel: Floats) -> tuple[Floats, Floats]:
        """Steps in all [N, M] and poses [N, M, 3] after every move from N poses.

        spent [N]: steps so far; travel [N, P]: to each push. Infinite out of the agent's reach.
        """
        outcomes = after_push(poses, self.moves)
        starts = np.concatenate([self.library.start, np.zeros((len(self.gate), 1))], axis=1)
        agent = after_push(poses, starts)[..., :2]
        reachable = ((agent > AGENT_EDGE) & (agent < WORLD_SIZE - AGENT_EDGE)).all(axis=-1)
        travel = np.repeat(np.where(reachable, travel, np.inf), self.lengths, axis=1)
        return spent[:, None] + travel + self.steps + self.value(outcomes), outcomes

    def _simulate(self, pose: Floats, push: int) -> float:
        """Steps for a push between the real walls, ended at its best moment, and for the rest."""
        start = to_world(pose, self.library.start[push])
        direction = to_world((0.0, 0.0, pose[2]), self.library.direction[push])
        poses = roll(self.world, start, direction * ENTRY_SPEED, pose, direction, HORIZON)
        steps = TURN_STEPS + np.arange(len(poses)) / ROLLS_PER_STEP + self.value(poses)
        return float(np.where(error(poses, pose) > least_move(pose), steps, np.inf).min())

    def _push(self, pose: Floats, push: int) -> Push:
        start = to_world(pose, self.library.start[push])
        direction = to_world((0.0, 0.0, pose[2]), self.library.direction[push])
        return Push(push, start, direction, int(self.gate[push]))

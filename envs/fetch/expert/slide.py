"""An expert for Fetch's sliding: strikes that make the puck come to rest at the goal.

The velocity that it has to have is known (sliding.py). Which motions of the gripper give it is
searched for in the simulator, by the cross-entropy method (Rubinstein, 1999) over the next steps:
again at each step, until the puck has it or is out of reach.
"""

from dataclasses import replace

import numpy as np

from dipole.envs.fetch.expert.approach import next_place
from dipole.envs.fetch.expert.motion import LEAVE, Action, FetchExpert, Floats, Scene, action
from dipole.envs.fetch.expert.sliding import launch_velocity, stopping_way
from dipole.envs.fetch.geometry import METRES_PER_ACTION, STEP

LOW = 0.414  # height of the gripper that strikes, metres
FINGERS = np.array([0.0135, 0.0149])  # half of the closed fingers' widths in x and y, metres
RADIUS = 0.025  # of the puck, metres
DONE = 0.03  # from the goal, at which the puck is left alone, metres
MISS = 0.02  # from the goal, at which a puck that slides may come to rest, metres
RESTS = 0.02  # of the puck's speed, below which it rests, m/s
REACH = 0.10  # between gripper and puck, up to which the gripper follows, metres
FLAT = np.sin(np.radians(8.0))  # of the angle to a face's normal, below which the face strikes
STEPS, CANDIDATES, ELITES, ROUNDS = 3, 14, 4, 4  # of the search
SPREAD = 0.2  # of the first candidates' actions
SPEED_OF_ACTION = 0.95  # of a puck that is struck by an action of 1, m/s, for the first guess


class SlideExpert(FetchExpert):
    """Phases: travel behind the puck, strike and follow while it is too slow, watch it slide."""

    def reset(self, seed: int) -> None:
        """Begin an episode; the seed gives how far behind the puck it comes down, too."""
        super().reset(seed)
        self.manner = replace(self.manner, speed=self.random.uniform(0.85, 1.0))
        self._room = self.random.uniform(0.004, 0.008)
        self._plan: list[Floats] = []

    def decide(self, scene: Scene) -> Action:
        """The action of the phase that the scene is in."""
        way = (scene.goal - scene.object)[:2]
        velocity = scene.object_velocity[:2] / STEP
        rests = float(np.linalg.norm(velocity)) < RESTS
        miss = float(np.linalg.norm(way - stopping_way(velocity)))
        if miss < (DONE if rests else MISS):
            return action(np.zeros(3), LEAVE)
        needed = launch_velocity(way)
        ahead = needed / max(float(np.linalg.norm(needed)), 1e-9)
        if not rests:
            away = (scene.object - scene.gripper)[:2]
            follows = float(away @ ahead) > 0 and float(np.linalg.norm(away)) < REACH
            return self._strike(scene, needed) if follows else action(np.zeros(3), LEAVE)
        place = (scene.object - RADIUS * np.append(ahead, 0.0))[:2] - corner(ahead)
        place -= ahead * self._room
        there = float(np.linalg.norm(scene.gripper[:2] - place))
        if there < 0.003 and scene.gripper[2] < LOW + 0.010:
            return self._strike(scene, needed)
        target = next_place(scene, place, LOW, self.manner.height)
        return action(self.towards(scene, target), LEAVE)

    def _strike(self, scene: Scene, needed: Floats) -> Action:
        """The first action of those that bring the puck nearest to the goal."""
        moving = float(np.linalg.norm(scene.object_velocity[:2])) / STEP > RESTS
        shares = np.array([1.0, 1.0, 0.0] if moving else [0.5, 1.0, 0.0])
        mean = shares[:, None] * needed / SPEED_OF_ACTION  # [STEPS, 2]
        spread = np.full(mean.shape, SPREAD) * (shares > 0)[:, None]
        best, least = mean, np.inf
        for _ in range(ROUNDS):
            drawn = mean + spread * self.random.normal(size=(CANDIDATES, *mean.shape))
            plans = np.clip(np.concatenate([best[None], drawn]), -1.0, 1.0)
            costs = np.array([self._miss(scene, plan) for plan in plans])
            order = np.argsort(costs)
            best, least = plans[order[0]], costs[order[0]]
            if least < MISS / 4:
                break
            elites = plans[order[:ELITES]]
            mean, spread = elites.mean(0), elites.std(0) + 0.01 * (shares > 0)[:, None]
        return action(np.append(best[0], self._level(scene)), LEAVE)

    def _miss(self, scene: Scene, plan: Floats) -> float:
        """How far from the goal the puck comes to rest after a plan [STEPS, 2], metres."""
        level = np.full((len(plan), 1), self._level(scene))
        state = self.foresee(np.concatenate([plan, level, np.zeros((len(plan), 1))], 1))
        velocity = (state[14:16] + state[20:22]) / STEP
        return float(np.linalg.norm(state[3:5] + stopping_way(velocity) - scene.goal[:2]))

    def _level(self, scene: Scene) -> float:
        return float(np.clip((LOW - scene.gripper[2]) / METRES_PER_ACTION, -1.0, 1.0))


def corner(ahead: Floats) -> Floats:
    """Where the fingers touch a puck that is to go `ahead` [2], from the gripper's centre, [2].

    At a corner, so that the way from there to the puck's centre is `ahead`: along a face a puck
    rolls, and gets a third only of the motion along it. Near a face's normal, on that face.
    """
    share = np.minimum(np.abs(ahead) / FLAT, 1.0)  # 0 on an axis, 1 where the corner strikes
    place: Floats = FINGERS * np.sign(ahead) * share
    return place

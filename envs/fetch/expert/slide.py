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

LOW = 0.424  # height of the gripper that strikes, just above the table, metres
FINGERS = np.array([0.0135, 0.0149])  # half of the closed fingers' widths in x and y, metres
RADIUS = 0.025  # of the puck, metres
DONE = 0.03  # from the goal, at which the puck is left alone, metres
MISS = 0.02  # short of the goal, by which a puck that slides may come to rest, metres
RESTS = 0.02  # of the puck's speed, below which it rests, m/s
REACH = 0.10  # between gripper and puck, up to which the gripper follows, metres
FLAT = np.sin(np.radians(8.0))  # of the angle to a face's normal, below which the face strikes
CATCHES = 1.0  # action up to which the gripper touches a puck that slides, within a step
CANDIDATES, ELITES, ROUNDS = 12, 4, 3  # of the search
AIMS = 3  # searches for a strike
ENOUGH = 0.01  # from the goal, at which a plan is good enough, metres
AHEAD = 30  # steps within which a puck comes to rest
SPREAD = 0.2  # of the first candidates' actions
SPEED_OF_ACTION = 0.95  # of a puck that is struck by an action of 1, m/s, for the first guess


class SlideExpert(FetchExpert):
    """Phases: travel behind the puck, strike and follow while it is too slow, watch it slide."""

    def reset(self, seed: int) -> None:
        """Begin an episode; the seed gives how far behind the puck it comes down, too."""
        super().reset(seed)
        self.manner = replace(self.manner, speed=self.random.uniform(0.85, 1.0))
        self._room = self.random.uniform(0.004, 0.008)

    def decide(self, scene: Scene) -> Action:
        """The action of the phase that the scene is in."""
        way = (scene.goal - scene.object)[:2]
        velocity = scene.object_velocity[:2] / STEP
        rests = float(np.linalg.norm(velocity)) < RESTS
        needed = launch_velocity(way)
        ahead = needed / max(float(np.linalg.norm(needed)), 1e-9)
        place = (scene.object - RADIUS * np.append(ahead, 0.0))[:2] - corner(ahead)
        if rests:
            return self._from_rest(scene, way, needed, place - ahead * self._room)
        away = (scene.object - scene.gripper)[:2]
        missing = scene.goal[:2] - self._end(scene)
        out_of_reach = float(away @ ahead) < 0 or float(np.linalg.norm(away)) > REACH
        if out_of_reach or float(missing @ ahead) < MISS:
            return action(np.zeros(3), LEAVE)
        follow = (place + velocity * STEP - scene.gripper[:2]) / METRES_PER_ACTION
        if float(np.abs(follow).max()) < CATCHES:
            return self._strike(scene, needed, (1.0, 1.0))
        return action(np.append(follow / np.abs(follow).max(), self._level(scene)), LEAVE)

    def _from_rest(self, scene: Scene, way: Floats, needed: Floats, place: Floats) -> Action:
        """Leave the puck alone, travel to the place behind it, or strike."""
        if float(np.linalg.norm(way)) < DONE:
            return action(np.zeros(3), LEAVE)
        there = float(np.linalg.norm(scene.gripper[:2] - place))
        if there < 0.003 and scene.gripper[2] < LOW + 0.006:
            return self._strike(scene, needed, (0.5, 1.0))
        target = next_place(scene, place, LOW, self.manner.height)
        return action(self.towards(scene, target), LEAVE)

    def _strike(self, scene: Scene, needed: Floats, shares: tuple[float, ...]) -> Action:
        """The first action of those that bring the puck to rest nearest to the goal.

        Aimed at the goal by the formula; where the simulator then says that the puck ends
        elsewhere, aimed beside the goal by as much.
        """
        aim = scene.goal[:2].copy()
        best, least = np.zeros((len(shares) + 1, 2)), np.inf
        guess = np.array([*shares, 0.0])[:, None] * needed / SPEED_OF_ACTION
        for _ in range(AIMS):
            guess = self._search(scene, guess, aim)
            error = self._end(scene, guess) - scene.goal[:2]
            if float(np.linalg.norm(error)) < least:
                best, least = guess, float(np.linalg.norm(error))
            if least < ENOUGH:
                break
            aim -= error
        return action(np.append(best[0], self._level(scene)), LEAVE)

    def _search(self, scene: Scene, guess: Floats, aim: Floats) -> Floats:
        """The plan [N, 2], the last of it zeros, after which the puck comes to rest at `aim`."""
        mean, best = guess, guess
        spread = np.full(mean.shape, SPREAD)
        spread[-1] = 0.0
        for _ in range(ROUNDS):
            drawn = mean + spread * self.random.normal(size=(CANDIDATES, *mean.shape))
            plans = np.clip(np.concatenate([best[None], drawn]), -1.0, 1.0)
            costs = [np.linalg.norm(self._stop(scene, plan) - aim) for plan in plans]
            order = np.argsort(costs)
            best = plans[order[0]]
            if costs[order[0]] < ENOUGH / 2:
                break
            mean, spread = plans[order[:ELITES]].mean(0), plans[order[:ELITES]].std(0) + 0.01
            spread[-1] = 0.0
        return best

    def _stop(self, scene: Scene, plan: Floats) -> Floats:
        """Where the puck comes to rest after a plan [N, 2], by the formula, metres."""
        state = self._foreseen(scene, plan)
        return state[3:5] + stopping_way((state[14:16] + state[20:22]) / STEP)

    def _end(self, scene: Scene, plan: Floats | None = None) -> Floats:
        """Where the puck comes to rest after a plan [N, 2], by the simulator, metres."""
        begun = np.zeros((0, 2)) if plan is None else plan
        return self._foreseen(scene, np.concatenate([begun, np.zeros((AHEAD, 2))]))[3:5]

    def _foreseen(self, scene: Scene, plan: Floats) -> Floats:
        level = np.zeros((len(plan), 2))
        level[:2, 0] = self._level(scene)
        return self.foresee(np.concatenate([plan, level], 1))

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

"""What Fetch's experts have in common: what they see, how they move, and the variety of a seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dipole.envs.fetch.geometry import METRES_PER_ACTION

Floats = NDArray[np.float64]
Action = NDArray[np.float32]
Foresee = Callable[[Floats], Floats]  # actions [N, 4] to the "state" that they lead to
ENTROPY = 11  # tells these experts' random numbers from others' of the same seed
OPEN, CLOSE, LEAVE = 1.0, -1.0, 0.0  # the fourth number of an action


@dataclass(frozen=True)
class Scene:
    """An observation, taken apart; metres, and metres a step.

    For reach, which has no object, `object` is the gripper itself.
    """

    gripper: Floats
    object: Floats
    goal: Floats
    fingers: float  # half of the space between them
    gripper_velocity: Floats
    object_velocity: Floats

    @classmethod
    def of(cls, observation: Mapping[str, Floats]) -> "Scene":
        """Out of "state" [25] or [10], "achieved_goal" [3] and "desired_goal" [3]."""
        state = np.asarray(observation["state"], np.float64)
        goal = np.asarray(observation["desired_goal"], np.float64)
        if len(state) == 10:
            gripper, velocity = state[:3], state[5:8]
            return cls(gripper, gripper, goal, float(state[3]), velocity, velocity)
        moved, velocity = state[14:17] + state[20:23], state[20:23]
        return cls(state[:3], state[3:6], goal, float(state[9:11].mean()), velocity, moved)


@dataclass(frozen=True)
class Manner:
    """How one episode is done, drawn from its seed.

    speed: Of the gripper at most, as a share of what it can. gain: Share of the way to a near
    target that is gone in a step. height: Metres above the object's centre at which the gripper
    travels. wait: Steps before it begins.
    """

    speed: float
    gain: float
    height: float
    wait: int

    @classmethod
    def drawn(cls, random: np.random.Generator) -> "Manner":
        """One of those that get there within an episode's 50 steps."""
        return cls(
            speed=random.uniform(0.7, 1.0),
            gain=random.uniform(0.5, 0.9),
            height=random.uniform(0.06, 0.10),
            wait=int(random.integers(0, 3)),
        )


class FetchExpert:
    """Acts on "state", "achieved_goal" and "desired_goal": one action [4] a step.

    foresee: What the environment says actions would lead to, for those who plan.
    """

    def __init__(self, foresee: Foresee) -> None:
        self.foresee = foresee
        self.reset(seed=0)

    def reset(self, seed: int) -> None:
        """Begin an episode, in the manner of its seed."""
        self.random = np.random.default_rng([seed, ENTROPY])
        self.manner = Manner.drawn(self.random)
        self.step = -1

    def act(self, observation: Mapping[str, Floats]) -> Action:
        """The action [4] at an observation."""
        self.step += 1
        if self.step < self.manner.wait:
            return action(np.zeros(3), LEAVE)
        return self.decide(Scene.of(observation))

    def decide(self, scene: Scene) -> Action:
        """The action [4] at a scene; what a task's expert is."""
        raise NotImplementedError

    def towards(self, scene: Scene, target: Floats, speed: float = 1.0) -> Floats:
        """The motion [3] of an action that brings the gripper nearer to a target.

        speed: At most, as a share of the manner's.
        """
        return limited((target - scene.gripper) * self.manner.gain, self.manner.speed * speed)


def limited(motion: Floats, speed: float) -> Floats:
    """A motion in metres as the numbers of an action, no longer than `speed`."""
    asked = motion / METRES_PER_ACTION
    return asked * min(1.0, speed / max(float(np.linalg.norm(asked)), 1e-9))


def action(motion: Floats, fingers: float) -> Action:
    """The action [4] of a motion [3] and the fingers' command."""
    return np.append(np.clip(motion, -1.0, 1.0), fingers).astype(np.float32)

"""The two tasks of simulated ALOHA: where objects start, and what counts as progress.

Start ranges, rewards and geometries' names are those of gym-aloha, which tests hold this to.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dipole.envs.aloha.joints import Floats

Touches = Callable[[str, str], bool]  # whether two parts are in contact
Judgement = tuple[int, dict[str, bool]]
MAX_REWARD = 4
HEIGHT = 0.05  # at which objects start, metres: they fall onto the table

_COMMON = {
    "left": ("vx300s_left/10_left_gripper_finger",),
    "right": ("vx300s_right/10_right_gripper_finger",),
    "right_other": ("vx300s_right/10_left_gripper_finger",),
    "table": ("table",),
}


@dataclass(frozen=True)
class AlohaTask:
    """One task.

    scene: File among gym-aloha's assets.
    parts: {part: geometries} whose contacts decide.
    objects: Names of the free bodies, in MuJoCo's order.
    low, high: Range [objects, 2] of their start positions x and y, metres.
    judge: Reward, 0 to 4, and stages by name, of the contacts between parts.
    """

    scene: str
    parts: Mapping[str, tuple[str, ...]]
    objects: tuple[str, ...]
    low: tuple[tuple[float, float], ...]
    high: tuple[tuple[float, float], ...]
    judge: Callable[[Touches], Judgement]

    def start(self, seed: int) -> Floats:
        """Poses of the objects, [7 * objects]: positions and unit quaternions (w, x, y, z)."""
        random = np.random.RandomState(seed)  # gym-aloha's generator: its seeds, its starts
        poses = []
        for low, high in zip(self.low, self.high, strict=True):
            place = random.uniform([*low, HEIGHT], [*high, HEIGHT])
            poses.append([*place, 1.0, 0.0, 0.0, 0.0])
        return np.concatenate(poses)


def _judge_transfer(touches: Touches) -> Judgement:
    left, right, table = touches("cube", "left"), touches("cube", "right"), touches("cube", "table")
    stages = {
        "touched": right,
        "lifted": right and not table,
        "met": left,
        "transferred": left and not table,
        "released": left and not table and not right and not touches("cube", "right_other"),
    }
    return _reward(stages, ("touched", "lifted", "met", "transferred")), stages


def _judge_insertion(touches: Touches) -> Judgement:
    held = touches("socket", "left") and touches("peg", "right")
    aloft = not touches("peg", "table") and not touches("socket", "table")
    stages = {
        "touched": held,
        "lifted": held and aloft,
        "met": touches("peg", "socket") and aloft,
        "inserted": touches("peg", "pin"),
    }
    return _reward(stages, tuple(stages)), stages


def _reward(stages: Mapping[str, bool], order: tuple[str, ...]) -> int:
    """The number of the last stage that holds, from 1."""
    return max((1 + i for i, name in enumerate(order) if stages[name]), default=0)


TASKS = {
    "transfer_cube": AlohaTask(
        scene="bimanual_viperx_transfer_cube.xml",
        parts={**_COMMON, "cube": ("red_box",)},
        objects=("box",),
        low=((0.0, 0.4),),
        high=((0.2, 0.6),),
        judge=_judge_transfer,
    ),
    "insertion": AlohaTask(
        scene="bimanual_viperx_insertion.xml",
        parts={
            **_COMMON,
            "peg": ("red_peg",),
            "socket": ("socket-1", "socket-2", "socket-3", "socket-4"),
            "pin": ("pin",),
        },
        objects=("peg", "socket"),
        low=((0.1, 0.4), (-0.2, 0.4)),
        high=((0.2, 0.6), (-0.1, 0.6)),
        judge=_judge_insertion,
    ),
}

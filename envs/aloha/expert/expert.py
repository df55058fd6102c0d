"""ALOHA's expert: scripts of poses, solved to joints one step at a time."""

from collections.abc import Callable
from typing import Any

from dipole.envs.aloha.expert.arms import Observation, Script, TwoArms
from dipole.envs.aloha.expert.insertion import insertion
from dipole.envs.aloha.expert.kinematics import Kinematics
from dipole.envs.aloha.expert.style import Style
from dipole.envs.aloha.expert.transfer import transfer
from dipole.envs.aloha.joints import Floats
from dipole.envs.wrapped import offered

SCRIPTS: dict[str, Callable[[TwoArms, Style], Script]] = {
    "transfer_cube": transfer,
    "insertion": insertion,
}


class AlohaExpert:
    """Acts on "state" [14] and "environment_state": one action [14] a step.

    environment: An `Aloha`, or one around it; its model is read, its state is not.
    """

    def __init__(self, environment: Any) -> None:
        self._kinematics = Kinematics(offered(environment, "simulation").model)
        self._repeat = offered(environment, "action_repeat")
        self._script_of = SCRIPTS[offered(environment, "task")]
        self.reset(seed=0)

    def reset(self, seed: int) -> None:
        """Begin an episode; the seed says how it is done."""
        self._style = Style.draw(seed)
        self._arms: TwoArms | None = None
        self._script: Script = iter(())

    def act(self, observation: Observation) -> Floats:
        """The next targets; where the task is done, the last ones."""
        if self._arms is None:
            self._arms = TwoArms(self._kinematics, observation)
            self._script = self._script_of(self._arms, self._style)
        self._arms.look(observation)
        for _ in range(self._repeat):
            next(self._script, None)
        return self._arms.action

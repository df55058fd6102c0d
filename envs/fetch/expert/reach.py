"""An expert for Fetch's reaching: straight to the goal, slower as it comes near."""

from dipole.envs.fetch.expert.motion import LEAVE, Action, FetchExpert, Scene, action


class ReachExpert(FetchExpert):
    """Moves a share of what is left of the way in each step."""

    def decide(self, scene: Scene) -> Action:
        """Towards the goal."""
        return action(self.towards(scene, scene.goal), LEAVE)

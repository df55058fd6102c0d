"""Experts of Fetch's tasks: state machines that look at every observation, so that they correct.

Which phase a task is in is read off the observation as far as it can be, not off a clock: what was
pushed away is approached again.
"""

from dipole.envs.fetch.expert.motion import FetchExpert, Foresee
from dipole.envs.fetch.expert.pick_and_place import PickAndPlaceExpert
from dipole.envs.fetch.expert.push import PushExpert
from dipole.envs.fetch.expert.reach import ReachExpert
from dipole.envs.fetch.expert.slide import SlideExpert

OF_TASKS: dict[str, type[FetchExpert]] = {
    "reach": ReachExpert,
    "push": PushExpert,
    "pick-and-place": PickAndPlaceExpert,
    "slide": SlideExpert,
}


def expert_of(task: str, foresee: Foresee) -> FetchExpert:
    """The expert of a task of Fetch, in an environment that foresees what actions lead to."""
    return OF_TASKS[task](foresee)

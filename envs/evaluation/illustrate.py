"""Pictures of an evaluation: chunks over scenes, and what an image policy looks at."""

from dipole.envs.evaluation.episodes import EpisodeRun
from dipole.envs.evaluation.results import Evaluation
from dipole.envs.media.picture import action_projection, chunk_picture
from dipole.envs.media.saliency import looks_picture
from dipole.envs.rollout import EnvironmentFactory


def illustrate(evaluation: Evaluation, run: EpisodeRun, make: EnvironmentFactory) -> None:
    """Add pictures; an environment has to say where in the scene its actions lie."""
    environment = make()
    try:
        projection, executor = action_projection(environment), run.executor
        moments = sorted(run.moments, key=lambda moment: (moment.step > 0, moment.seed))
        evaluation.looks = looks_picture(moments, executor.policy)
        if projection is not None:
            evaluation.picture = chunk_picture(
                moments, executor.policy, projection, executor.executed
            )
    finally:
        environment.close()

"""Evaluate a policy in a simulator: a list of episodes, each with its own seed and its own noise.

A free simulator takes the next episode; one whose episode is over is neither simulated nor
inferred for. Episode i starts from environment seed `seed + i` and draws its noise from a generator
with that seed, and inference always has the same batch size: an episode's outcome is the same, bit
for bit, however many simulators or processes there are and in whatever order their answers arrive.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dipole.data.loading.features import Feature
from dipole.envs.contract import EnvSpec
from dipole.envs.evaluation import EpisodeResult, Evaluation, latency, summarize
from dipole.envs.evaluation.motion import roughness
from dipole.envs.evaluation.resources import (
    Asked,
    Computing,
    at_least,
    computing_here,
    inference_threads,
)
from dipole.envs.evaluation.terms import terms
from dipole.envs.media.video import check_video, film_stride, filmed_episodes
from dipole.envs.rollout import Environment
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.envs.rollout.first_look import first_look
from dipole.envs.rollout.rate import check_rate
from dipole.envs.rollout.resolved import ResolvedEnvironment

DEFAULT_FPS = 10.0


def evaluate(
    policy: Any,
    environment: str | EnvSpec | Mapping[str, Any] | Callable[..., Environment] = "pusht",
    *,
    episodes: int = 50,
    seed: int = 0,
    workers: int | None = 0,
    n_envs: int | None = None,
    threads: int | None = None,
    video_episodes: int | None = 0,
    video: str = "first",
    video_views: bool = False,
    picture: bool = True,
    inference_batch_size: int = 16,
    n_action_steps: int | None = None,
    environment_options: Mapping[str, Any] | None = None,
    keep_episodes: Path | str | None = None,
    targets: Mapping[str, Feature] | None = None,
    cluster: ClusterSettings | None = None,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> Evaluation:
    """Run a policy for `episodes` episodes, with seeds seed, seed + 1, ...

    environment: a registered name, "gym:ID", a task's specification (see `EnvSpec`), or a function
        that makes the environment from the options and, if it has such a parameter, `observation`,
        the stored keys that the policy's features are made of (with workers: an importable one).
    workers: simulator processes; 0 simulates in this one, and is the faster where inference takes
        most of the time, as in Push-T: there simulation is a few percent of an evaluation, and
        processes cost more than they hide. They pay for simulators of milliseconds a step. None:
        chosen by what a step takes when tried. They change no result.
    n_envs: simulators; by default as many as one inference call has rows, or twice that where
        workers simulate while this process infers, but four a worker where they are slow to make.
        Where each is a process of its own, four, or four a worker.
    threads: how many batches of rows a policy on the processor infers for at once, each on one
        core; by default as many as torch would use for one. Like n_envs it changes no result.
    inference_batch_size: rows of each inference call, 1 or a multiple of 16; a part of the result,
        unlike the two above.
    video_episodes: how many episodes, from the first, are rendered for the video and the picture;
        in an environment of several tasks, of each of them. None: 8, or one of each.
    video: which episodes are filmed: "first", or the first "failures", which are run once more.
    video_views: beside each filmed scene, each camera's picture as the policy's network is given
        it, with keypoints. Raises ConfigError for a policy without cameras, and for an export.
    picture: whether to draw predicted chunks over the scenes of filmed episodes, and what an image
        policy looks at.
    n_action_steps: how much of each chunk is executed, instead of what the policy says.
    keep_episodes: where all episodes are kept as a dataset, failures too: what the policy saw under
        its stored keys, actions, rewards, seed and success. Nothing is overwritten.
    targets: what else is kept then, by name: features whose stored keys the policy does not see,
        and which it, or another one, is to learn to tell. What the environment has not is warned
        of.
    cluster: a Ray cluster whose machines simulate, and infer where it says so, in place of workers
        and threads; it changes no result where all of them compute alike.
    progress: called with each result as its episode ends.

    Of metrics, "score" is None where a rate of success decides and no episode told of any.
    Raises ConfigError for values that cannot work and for a policy of another rate than the
    simulator's, RolloutError where a simulator fails.
    """
    from dipole.envs.evaluation.episodes import EpisodeRun
    from dipole.envs.evaluation.failures import film_failures
    from dipole.envs.evaluation.illustrate import illustrate
    from dipole.envs.evaluation.keeping import (
        KeptEpisodes,
        check_new,
        keeping_targets,
        recorded_keys,
    )
    from dipole.envs.media.filming import Filming
    from dipole.envs.media.views import PolicyViews
    from dipole.policy.execution.executor import Executor

    begun = time.perf_counter()
    at_least(1, episodes=episodes, n_envs=1 if n_envs is None else n_envs)
    at_least(0, seed=seed, workers=workers or 0, video_episodes=video_episodes or 0)
    check_video(video)
    views = PolicyViews(policy) if video_views else None
    keep = None if keep_episodes is None else check_new(keep_episodes)
    threads = inference_threads(policy, threads)
    film = video_episodes != 0
    resolved = keeping_targets(
        ResolvedEnvironment.of(environment, policy, environment_options or {}, render=film),
        targets if keep is not None else None,
        seed,
    )
    keys = None if keep is None else recorded_keys(resolved)
    workers = 0 if cluster is not None else workers
    look = first_look(resolved, policy, seed=seed, film=film, measure=workers is None)
    check_rate(policy.features, look.fps)
    fps = look.fps or DEFAULT_FPS
    film = film and not _warned_of_no_video(resolved.name, look.no_video)
    asked = Asked(episodes, inference_batch_size, n_envs, threads, workers, keys)
    with _computing(cluster, policy, resolved, look, asked) as computing:
        slots, n_slots, workers = computing.slots, computing.n_slots, computing.workers
        executor = Executor(
            computing.policy,
            n_slots,
            inference_batch_size=inference_batch_size,
            n_action_steps=n_action_steps,
            pool=computing.pool,
        )
        stride = film_stride(fps)
        filming = Filming(lambda: fps / stride)
        started, tasks = time.perf_counter(), len(look.tasks)
        first = film and video == "first"
        filmed = filmed_episodes(video_episodes, tasks, episodes) if first else 0
        with KeptEpisodes(keep, resolved, policy, look.fps) as kept, filming:
            shown = run = EpisodeRun(executor, slots, progress, filming, kept.add, views)
            results = run.finish(range(seed, seed + episodes), n_slots, filmed, stride)
            calls = [call.seconds for call in executor.calls]
            waiting, ended = slots.waited - run.waited_before, time.perf_counter()
            seconds = ended - started
            if film and video == "failures":
                shown = EpisodeRun(executor, slots, filming=filming, views=views, say=str)
                film_failures(shown, results, video_episodes, tasks, n_slots, stride)
            filming_again = time.perf_counter() - ended
    metrics = summarize(results, resolved.score, run.success_name) | {
        **roughness(run.motions, getattr(policy.features, "fps", None)),
        **terms(policy, resolved),
        **({"modes": list(look.modes)} if look.modes else {}),
        "policy_ms": latency(calls, inference_batch_size),
        "seed": seed,
        "n_action_steps": executor.n_action_steps,
        "seconds": seconds,
        "seconds_by_part": run.times.by_part(
            start=((run.answered or started) if workers else started) - begun,
            inference=sum(calls),
            workers=workers,
            waiting=waiting,
            filming_again=filming_again if shown is not run else None,
        ),
        "steps_per_second": run.times.steps / seconds,
        "workers": workers,
        "step_ms": None if look.step_seconds is None else 1e3 * look.step_seconds,
    }
    if computing.cluster is not None:
        metrics["cluster"] = {**computing.cluster, "begun_again": run.begun_again}
    evaluation = Evaluation(metrics, results, fps=fps / stride)
    if shown.recordings:
        evaluation.recordings, evaluation.video = shown.recordings, filming.finish
        if picture:
            illustrate(evaluation, shown, resolved.make)
    return evaluation


def _computing(cluster: ClusterSettings | None, *what: Any) -> AbstractContextManager[Computing]:
    """On a cluster, or else in this process and others of this machine."""
    if cluster is None:
        return computing_here(*what)
    from dipole.envs.evaluation.cluster_computing import computing_on

    return computing_on(cluster, *what)


def _warned_of_no_video(name: str, why: str) -> bool:
    """Whether there is a reason why it cannot be filmed, after a warning that says so."""
    if why:
        warnings.warn(f"{name} cannot be drawn, so there is no video: {why}", stacklevel=3)
    return bool(why)

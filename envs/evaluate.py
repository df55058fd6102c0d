"""Evaluate a policy in a simulator: a list of episodes, each with its own seed and its own noise.

A free simulator takes the next episode; one whose episode is over is neither simulated nor
inferred for. Episode i starts from environment seed `seed + i` and draws its noise from a generator
with that seed, and inference always has the same batch size: an episode's outcome is the same, bit
for bit, however many simulators or processes there are and in whatever order their answers arrive.
"""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from dipole.data.core.errors import ConfigError
from dipole.envs.contract import EnvSpec
from dipole.envs.evaluation import EpisodeResult, Evaluation, latency, summarize
from dipole.envs.evaluation.motion import roughness
from dipole.envs.rollout import Environment, EnvironmentFactory, LocalSlots, Slots
from dipole.envs.rollout.first_look import first_look
from dipole.envs.rollout.rate import check_rate
from dipole.envs.rollout.resolved import ResolvedEnvironment
from dipole.envs.rollout.workers import WorkerSlots

if (
    TYPE_CHECKING
):  # worker processes import this file too, and torch would cost each of them seconds
    from dipole.envs.evaluation.episodes import EpisodeRun

DEFAULT_FPS = 10.0


def evaluate(
    policy: Any,
    environment: str | EnvSpec | Mapping[str, Any] | Callable[..., Environment] = "pusht",
    *,
    episodes: int = 50,
    seed: int = 0,
    workers: int = 0,
    n_envs: int | None = None,
    threads: int | None = None,
    video_episodes: int = 0,
    picture: bool = True,
    inference_batch_size: int = 16,
    n_action_steps: int | None = None,
    environment_options: Mapping[str, Any] | None = None,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> Evaluation:
    """Run a policy for `episodes` episodes, with seeds seed, seed + 1, ...

    environment: a registered name, "gym:ID", a task's specification (see `EnvSpec`), or a function
        that makes the environment from the options and, if it has such a parameter, `observation`,
        the stored keys that the policy's features are made of (with workers: an importable one).
    workers: simulator processes; 0 simulates in this one, and is the faster where inference takes
        most of the time, as in Push-T: there simulation is a few percent of an evaluation, and
        processes cost more than they hide. They pay for simulators of milliseconds a step.
    n_envs: simulators; by default as many as one inference call has rows, or twice that where
        workers simulate while this process infers.
    threads: how many batches of rows a policy on the processor infers for at once, each on one
        core; by default as many as torch would use for one. Like n_envs it changes no result.
    inference_batch_size: rows of each inference call, 1 or a multiple of 16; a part of the result,
        unlike the two above.
    video_episodes: how many episodes, from the first, are rendered for the video and the picture.
    picture: whether to draw predicted chunks over the scenes of filmed episodes, and what an image
        policy looks at.
    n_action_steps: how much of each chunk is executed, instead of what the policy says.
    progress: called with each result as its episode ends.

    Raises ConfigError for values that cannot work and for a policy of another rate than the
    simulator's, RolloutError where a simulator fails.
    """
    from dipole.envs.evaluation.episodes import EpisodeRun
    from dipole.envs.media.filming import Filming
    from dipole.policy.core.threads import one_thread_each
    from dipole.policy.execution.executor import Executor
    from dipole.policy.runtimes.torchscript import without_interpreter

    _at_least(1, episodes=episodes, n_envs=1 if n_envs is None else n_envs)
    _at_least(0, seed=seed, workers=workers, video_episodes=video_episodes)
    threads = _threads(policy, threads)
    n_slots = min(episodes, n_envs or inference_batch_size * threads * (2 if workers else 1))
    filmed = video_episodes > 0
    resolved = ResolvedEnvironment.of(environment, policy, environment_options or {}, render=filmed)
    look = first_look(resolved, policy, seed=seed, film=filmed)
    check_rate(policy, look.fps)
    if look.no_video:
        said = f"{resolved.name} cannot be drawn, so there is no video: {look.no_video}"
        warnings.warn(said, stacklevel=2)
        video_episodes = 0
    with one_thread_each(threads) as pool:
        executor = Executor(
            without_interpreter(policy),
            n_slots,
            inference_batch_size=inference_batch_size,
            n_action_steps=n_action_steps,
            pool=pool,
        )
        filming = Filming(lambda: look.fps or DEFAULT_FPS)
        started = time.perf_counter()
        with closing(_slots(policy, resolved, min(workers, n_slots))) as slots:
            run = EpisodeRun(executor, slots, progress, filming)
            try:
                results = run.finish(range(seed, seed + episodes), n_slots, filmed=video_episodes)
            except BaseException:
                filming.stop()
                raise
    seconds = time.perf_counter() - started
    metrics = summarize(results, resolved.score, run.success_name) | {
        **roughness(run.motions, getattr(policy.features, "fps", None)),
        "evaluations_per_chunk": getattr(policy, "evaluations_per_chunk", None),
        **({"modes": list(look.modes)} if look.modes else {}),
        "policy_ms": latency([call.seconds for call in executor.calls], inference_batch_size),
        "environment": resolved.version,
        "environment_options": resolved.options,
        "environment_settings": resolved.settings,
        "checkpoint": _text(getattr(policy, "checkpoint", None)),
        "solver": _plain(getattr(policy, "solver", None)),
        "seed": seed,
        "n_action_steps": executor.n_action_steps,
        "seconds": seconds,
    }
    evaluation = Evaluation(metrics, results, fps=look.fps or DEFAULT_FPS)
    if video_episodes:
        evaluation.video = filming.finish
        _illustrate(evaluation, run, resolved.make, picture)
    return evaluation


def _at_least(smallest: int, **values: int) -> None:
    for name, value in values.items():
        if value < smallest:
            raise ConfigError(f"{name} is {value}; it must be at least {smallest}")


def _threads(policy: Any, wanted: int | None) -> int:
    """Batches inferred for at once. An export's runtime has its own threads, a GPU needs none."""
    import torch

    if wanted is not None:
        _at_least(1, threads=wanted)
    on_processor = getattr(policy, "device", None) == torch.device("cpu")
    if not isinstance(policy, torch.nn.Module) or not on_processor:
        return 1
    return wanted or torch.get_num_threads()


def _slots(policy: Any, resolved: ResolvedEnvironment, workers: int) -> Slots:
    n_obs_steps = policy.window.n_obs_steps
    if not workers:
        return LocalSlots(resolved.make, n_obs_steps, resolved.interface)
    _warn_of_spinning(policy)
    return WorkerSlots(resolved.make, n_obs_steps, workers, resolved.interface)


def _illustrate(
    evaluation: Evaluation, run: "EpisodeRun", make: EnvironmentFactory, picture: bool
) -> None:
    """Add recordings and picture; an environment has to say where in the scene its actions lie."""
    from dipole.envs.media.picture import action_projection, chunk_picture
    from dipole.envs.media.saliency import looks_picture

    environment = make()
    try:
        evaluation.recordings = run.recordings
        projection, executor = action_projection(environment), run.executor
        moments = sorted(run.moments, key=lambda moment: (moment.step > 0, moment.seed))
        if picture:
            policy = getattr(executor.policy, "fallback", None) or executor.policy
            evaluation.looks = looks_picture(moments, policy)
        if picture and projection is not None:
            evaluation.picture = chunk_picture(
                moments, executor.policy, projection, executor.executed
            )
    finally:
        environment.close()


def _plain(value: Any) -> Any:
    """A solver's name and options as JSON has them."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value if isinstance(value, dict) else _text(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _warn_of_spinning(policy: Any) -> None:
    """OpenMP threads spin at barriers by default; beside busy workers that costs tenfold."""
    import torch

    on_cpu = torch.device(getattr(policy, "device", "cpu")).type == "cpu"
    passive = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if on_cpu and not passive and torch.get_num_threads() > 1:
        warnings.warn(
            "simulator processes beside multi-threaded inference: set OMP_WAIT_POLICY=PASSIVE "
            "before Python starts (or OMP_NUM_THREADS=1), or inference may be ten times slower",
            stacklevel=4,
        )

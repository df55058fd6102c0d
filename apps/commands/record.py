"""`dipole record`: make demonstrations, by the expert, by a teacher, or by hand in a window."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dipole.apps.compose import run
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest
from dipole.envs.rollout.cluster.settings import ClusterSettings

if TYPE_CHECKING:
    from dipole.data.recording.episode_writer import EpisodeWriter
    from dipole.data.recording.record import Demonstration
    from dipole.envs.experts.action_noise import DisturbanceSpec
    from dipole.envs.experts.demonstrate import DemonstrationSpec
    from dipole.envs.experts.first_look import RecordingLook
    from dipole.envs.experts.keeping import Tally
    from dipole.envs.experts.teaching.spec import TeachingSpec

Config = dict[str, Any]
TAKEOVER_STEPS, EPISODES = 200, 200
# Of a teacher and its student, and of no hand: with their usual values.
TAUGHT = {"teacher_acts": 0, "label_every": 1, "label_length": None, "n_envs": None}
NOT_BY_HAND = {"drift": None, "shoves": None, "shove": None, "workers": 0, "video_episodes": 0}
# What `dipole train` is told beside the task, of observations that are more than numbers.
READERS = {"": "", "image": "policy=unet_image_small ", "text": "policy/encoder=state_text "}
PICTURES = {"image", "depth"}
SIDE_BY_SIDE = 16  # simulators of a process in which policies act: rows of a policy's call


@dataclass(frozen=True)
class RecordConfig:
    """Who shows what, how often, and where it goes; configs/record.yaml says what each is."""

    output: str
    expert: str | None = None
    mouse: bool = False
    episodes: int | None = None
    seed: int = 1_000_000  # away from evaluations, which begin at 0
    keep: str | None = None
    minimum: int = 16
    max_failures: int | None = 50
    drift: float | None = None
    shoves: float | None = None
    shove: float | None = None
    takeover: str | None = None
    takeover_steps: int | None = None
    teacher: str | None = None
    student: str | None = None
    teacher_acts: float = 0.0
    label_every: int = 1
    label_length: int | None = None
    resume: bool = False
    workers: int = 0
    n_envs: int | None = None
    cluster: ClusterSettings | None = None
    video_episodes: int = 0
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.mouse and (self.expert or self.takeover):
            raise ConfigError("mouse=true excludes expert=... and takeover=...: choose who acts")
        if self.teacher and (self.mouse or self.expert or self.takeover):
            raise ConfigError(
                "teacher=... excludes mouse=true, expert=... and takeover=...: the teacher acts, "
                "or student=RUN"
            )
        if self.student and not self.teacher:
            raise ConfigError(
                f"student={self.student} acts, and nobody says what it should have done: give "
                "teacher=RUN; what a policy does by itself is kept by `dipole evaluate "
                "checkpoint=RUN keep_episodes=PATH`"
            )
        self._check_used()
        if self.mouse and self.kept != "success":
            raise ConfigError("mouse=true keeps what succeeds: an episode that fails is made again")
        if self.takeover_steps is not None and self.takeover is None:
            raise ConfigError(
                f"takeover_steps={self.takeover_steps}, but nobody acts before: give takeover=RUN"
            )
        if self.kept not in ("success", "all"):
            hint = nearest(self.kept, ("success", "all")) or ";"
            raise ConfigError(f"keep={self.keep}{hint} it is success or all")
        for name, least in (
            ("episodes", 1),
            ("seed", 0),
            ("drift", 0),
            ("shove", 0),
            ("takeover_steps", 1),
            ("label_every", 1),
            ("label_length", 1),
            ("minimum", 1),
            ("max_failures", 1),
            ("workers", 0),
            ("n_envs", 1),
            ("video_episodes", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}={value}: it is at least {least}")
        if self.shoves is not None and not 0 <= self.shoves <= 1:
            raise ConfigError(f"shoves={self.shoves}: a probability is between 0 and 1")
        if self.fps is not None and not self.fps > 0:
            raise ConfigError(f"fps={self.fps}: frames a second are a positive number")
        self._check_cluster()

    def _check_used(self) -> None:
        """Nothing that was given does nothing."""
        for name, usual in TAUGHT.items():
            if self.teacher is None and getattr(self, name) != usual:
                raise ConfigError(
                    f"{name}={getattr(self, name)}, but nobody teaches: give teacher=RUN"
                )
        for name, usual in NOT_BY_HAND.items():
            if self.mouse and getattr(self, name) != usual:
                raise ConfigError(
                    f"{name}={getattr(self, name)} with mouse=true: it is of episodes that are "
                    "made without a hand; leave it out"
                )

    def _check_cluster(self) -> None:
        if self.cluster is None:
            return
        name = self.cluster.name
        if self.mouse:
            raise ConfigError(f"mouse=true with cluster={name}: a window is on this machine")
        if self.workers:
            raise ConfigError(
                f"workers={self.workers} with cluster={name}: its actors make the episodes in "
                "their place, so say cluster.actors=N"
            )
        if self.cluster.policies:
            raise ConfigError(
                f"cluster.policies={self.cluster.policies}: in a recording, policies act in the "
                "simulators' actors; leave it out"
            )

    @property
    def kept(self) -> str:
        """`keep`, or the usual: where a student fails is what its teacher is asked about."""
        return self.keep or ("all" if self.student else "success")


def main(argv: list[str]) -> int:
    return run("record", argv, record)


def record(config: Config) -> int:
    """Record, print how much. Returns 0."""
    from dipole.envs.experts import recorder
    from dipole.envs.experts.keeping import Tally
    from dipole.envs.experts.recorded import RecordedKeys

    settings, spec = _read(config)
    output = Path(settings.output).expanduser()
    keys = RecordedKeys({}) if settings.mouse else spec.keys  # by hand it is all that is observed
    look = _first_look(settings, spec)
    fps = _rate(settings, spec, look)
    if spec.teaching is not None and spec.features is not None:
        spec.teaching.check(spec.environment, spec.features, fps)
    which = {"seed": settings.seed, "keep": settings.kept, "minimum": settings.minimum}
    said = recorder.described(spec, keys, **which, fps=fps)
    episodes = settings.episodes or (None if settings.mouse else EPISODES)
    if settings.resume and recorder.is_begun(output):
        there = recorder.finished_episodes(output, said)
        if there is not None and episodes is not None and there >= episodes:
            print(f"{output}: {there} episodes are there already")
            if settings.video_episodes:
                print(f"video_episodes={settings.video_episodes} films what is recorded: no video")
            return 0
        writer = recorder.resumed(output, said)
        print(f"going on behind {writer.n_episodes} episodes {writer.dropped}".rstrip(), flush=True)
    else:
        writer = recorder.begin(output, spec, fps, said)
    seeds = _write(writer, settings, spec, episodes, Tally(bounds=look.bounds))
    if settings.video_episodes:
        _film(output, spec, seeds[: settings.video_episodes], fps)
    if (next_command := _next_command(config, settings)) is not None:
        print(next_command)
    return 0


def _next_command(config: Config, settings: RecordConfig) -> str | None:
    """What trains on the dataset; None for one of failures too, and where it takes more words."""
    asked = config["overrides"]
    if settings.kept == "all" or any(each.startswith("task.") for each in asked):
        return None
    task = asked.get("task")
    if task is not None and not (files("dipole.configs") / "task" / f"{task}.yaml").is_file():
        return None  # of a folder of the person's own
    named = "" if task is None else f"task={task} "
    kinds = {feature.get("kind", "state") for feature in config["task"]["observation"].values()}
    recipe = READERS.get("image" if kinds & PICTURES else "".join(kinds - {"state"}))
    if recipe is None or (kinds & PICTURES and (settings.mouse or "text" in kinds)):
        return None  # a hand's demonstrations hold no pictures
    taught = "objective=auxiliary " if kinds & PICTURES and config["task"].get("targets") else ""
    return f"train with: dipole train {named}{recipe}{taught}dataset={settings.output}"


def _write(
    writer: "EpisodeWriter",
    settings: RecordConfig,
    spec: "DemonstrationSpec",
    episodes: int | None,
    tally: "Tally",
) -> list[int]:
    """Add what is missing; the seeds of all episodes."""
    from dipole.data.store.numbers import SEED, SUCCESS
    from dipole.envs.experts import recorder
    from dipole.envs.experts.keeping import KeepSpec, kept

    began = time.perf_counter()
    # A demonstration is a person's time: what was recorded before an interruption is kept.
    with writer:
        left = None if episodes is None else max(0, episodes - writer.n_episodes)
        seed = recorder.next_seed(writer, settings.seed)
        keep = KeepSpec(left, settings.kept, settings.minimum, settings.max_failures)
        make = _by_mouse if settings.mouse else partial(_by_expert, left=left)
        try:
            for demonstration in kept(make(settings, spec, seed), keep, tally) if left != 0 else ():
                recorder.add(writer, demonstration)
                if settings.mouse or tally.kept % 10 == 0:
                    print(_progress(writer, tally, demonstration), flush=True)
        except KeyboardInterrupt:
            if not writer.n_episodes:
                raise
            print("interrupted: keeping what there is")
        writer.complete_numbers(SUCCESS, 0)  # an episode that told nothing has not succeeded
        seeds = [numbers[SEED] for numbers in writer.episode_numbers]
        total = f"{writer.n_episodes} episodes, {writer.n_frames} frames"
    seconds = time.perf_counter() - began
    print(
        f"{writer.path}: {total}; {tally.describe()}; "
        f"{seconds:.1f} s, {tally.steps / seconds:,.0f} steps a second"
    )
    print("".join(f"note: {note}\n" for note in tally.notes()), end="")
    return seeds


def _progress(writer: "EpisodeWriter", tally: "Tally", newest: "Demonstration") -> str:
    so_far = f"{writer.n_episodes} episodes, {writer.n_frames} frames, up to seed {newest.seed}"
    return f"{so_far}, {len(tally.failed)} failed" if tally.failed else so_far


def _first_look(settings: RecordConfig, spec: "DemonstrationSpec") -> "RecordingLook":
    """What does not fit is said before anything is written."""
    from dipole.envs.experts.first_look import first_look, first_look_by_hand

    if settings.mouse:
        return first_look_by_hand(spec.environment)
    return first_look(spec, settings.seed)


def _rate(settings: RecordConfig, spec: "DemonstrationSpec", look: "RecordingLook") -> float:
    """Frames a second: a simulator's steps, of which each is a frame."""
    found = settings.fps or look.fps
    if found is None:
        name = spec.environment.id
        raise ConfigError(f"environment {name!r} does not say how fast it is: give fps=N")
    return found


def _read(config: Config) -> "tuple[RecordConfig, DemonstrationSpec]":
    """Settings, and who shows what; raises ConfigError for what cannot be."""
    import dipole.envs  # noqa: F401  registers what features are made by
    from dipole.data.loading.features import Features
    from dipole.data.loading.targets import recorded_targets
    from dipole.data.loading.task_data import check_task
    from dipole.envs.contract import EnvSpec
    from dipole.envs.experts import find_expert
    from dipole.envs.experts.demonstrate import DemonstrationSpec
    from dipole.envs.registry import check_seeds

    task = config["task"]
    check_task(task)
    others = ("task", "overrides", "solver")
    said = {key: value for key, value in config.items() if key not in others}
    settings = from_mapping(RecordConfig, said, "")
    if task.get("environment") is None:
        raise ConfigError(f"task {task['name']!r} has no simulator to record in")
    features = Features.from_dict({k: task[k] for k in ("observation", "action")})
    spec = DemonstrationSpec(EnvSpec.read(task["environment"]), settings.expert, features)
    check_seeds(spec.environment, settings.seed, settings.episodes or EPISODES)
    solver = {k: v for k, v in (config.get("solver") or {}).items() if v is not None}
    _refuse_solver(settings, solver)
    if settings.mouse:
        return settings, replace(spec, features=None, expert="mouse")
    spec = replace(spec, targets=recorded_targets(task), teaching=_teaching(settings, solver))
    if spec.teaching is not None:
        return settings, replace(spec, disturbance=_disturbance(settings, None))
    expert = find_expert(spec.expert, spec.environment)
    environment = expert.demonstrating_in(spec.environment)  # as the dataset says it
    disturbance = _disturbance(settings, expert.disturbance_in(environment))
    spec = replace(spec, environment=environment, disturbance=disturbance)
    settings = replace(settings, keep=settings.keep or expert.keep)
    return settings, replace(spec, takeover=_takeover(settings))


def _teaching(settings: RecordConfig, solver: Config) -> "TeachingSpec | None":
    if settings.teacher is None:
        return None
    from dipole.envs.experts.teaching.spec import TeachingSpec

    return TeachingSpec.of(
        settings.teacher,
        settings.student,
        every=settings.label_every,
        length=settings.label_length,
        teacher_acts=settings.teacher_acts,
        solver=solver,
    )


def _refuse_solver(settings: RecordConfig, solver: Config) -> None:
    if not solver or settings.teacher is not None:
        return
    name, value = next(iter(solver.items()))
    acting = "takeover=RUN draws as its checkpoint says" if settings.takeover else "nobody teaches"
    raise ConfigError(
        f"solver.{name}={value}, which is of a teacher and its student, and {acting}: leave it "
        "out, or give teacher=RUN"
    )


def _disturbance(settings: RecordConfig, own: "DisturbanceSpec | None") -> "DisturbanceSpec | None":
    """The expert's own, with what the settings say; None where it would change nothing."""
    from dipole.envs.experts.action_noise import DisturbanceSpec

    asked = {
        "drift": settings.drift,
        "shove_probability": settings.shoves,
        "shove": settings.shove,
    }
    given: Any = {name: value for name, value in asked.items() if value is not None}
    disturbance = replace(own or DisturbanceSpec(), **given)
    if settings.shove and not disturbance.shove_probability:
        raise ConfigError(
            f"shove={settings.shove}, and the probability of a shove is 0: give shoves=PROBABILITY "
            "(of each step), or leave shove out"
        )
    return None if disturbance.changes_nothing else disturbance


def _takeover(settings: RecordConfig) -> Any:
    from dipole.envs.experts.intervention import TakeoverSpec
    from dipole.policy.checkpoint import find_checkpoint, origin

    if settings.takeover is None:
        return None
    run = find_checkpoint(settings.takeover)
    return TakeoverSpec(origin(run), settings.takeover_steps or TAKEOVER_STEPS)


def _by_expert(
    settings: RecordConfig, spec: "DemonstrationSpec", seed: int, left: int | None
) -> Iterator["Demonstration"]:
    from dipole.envs.experts.demonstrate import demonstrations

    cluster = settings.cluster
    processes = settings.workers if cluster is None else cluster.actors
    fewest = SIDE_BY_SIDE if left is None else -(-left // max(processes or 1, 1))
    n_envs = settings.n_envs or max(1, min(SIDE_BY_SIDE, fewest))
    return demonstrations(spec, seed, settings.workers, n_envs, cluster, left)


def _by_mouse(
    settings: RecordConfig, spec: "DemonstrationSpec", seed: int
) -> Iterator["Demonstration"]:
    from dipole.envs.pusht.mouse import MouseWindow, mouse_demonstrations
    from dipole.envs.registry import make_env

    options = {"render_size": 640, **spec.environment.options}
    made = make_env(spec.environment, observation=("state",), **options)
    return mouse_demonstrations(MouseWindow(made), seed, None, settings.minimum)


def _film(output: Path, spec: "DemonstrationSpec", seeds: list[int], fps: float) -> None:
    """The video, or why there is none: the dataset is there already."""
    from dipole.envs.experts import recorder

    path = recorder.video_path(output)
    try:
        recorder.film(path, spec, seeds, fps)
        print(f"{path}: {len(seeds)} of them")
    except Exception as error:  # of the simulator, its drawing library, or a missing display
        said, _, _ = str(error).partition("\n")
        print(f"no video: {type(error).__name__}: {said}")

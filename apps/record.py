"""`dipole record`: make demonstrations, by the expert or by hand in a window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dipole.apps.errors import UsageError
from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.recording.episode_writer import EpisodeWriter
from dipole.data.recording.record import Demonstration

TAKEOVER_STEPS = 200

USAGE = """usage: dipole record task=pusht_state expert=pusht episodes=200 output=PATH workers=2
       dipole record task=pusht_state mouse=true output=PATH

  task=NAME       a task of the configurations; its environment is recorded [pusht_state]
  expert=NAME     who shows how it is done [the task's own]
  mouse=BOOL      show it by mouse, in a window [false]
  episodes=N      how many successful episodes to keep [200; by mouse until the window is closed]
  seed=N          start of the first episode; the next have seed + 1, seed + 2, ... [0]
  drift=PIXELS    an expert's executed actions wander by this much; its own are recorded [3]
  shoves=P        probability that a shove begins, at each step [0.03]
  takeover=RUN    a policy acts first, and the expert takes over: only its own part is kept [nobody]
  takeover_steps=N  the policy acts for 0 to N steps [200]
  minimum=FRAMES  shorter episodes are left out [16]
  workers=N       processes for an expert's episodes; the dataset is the same for any number [0]
  output=PATH     the dataset: a folder, or a zip where it ends in .zip"""


@dataclass(frozen=True)
class RecordSettings:
    """The words of the command line; see USAGE."""

    task: str = "pusht_state"
    expert: str | None = None
    mouse: bool = False
    episodes: int | None = None
    seed: int = 0
    drift: float = 3.0
    shoves: float = 0.03
    takeover: str | None = None
    takeover_steps: int | None = None
    minimum: int = 16
    workers: int = 0
    output: str = ""

    def __post_init__(self) -> None:
        if not self.output:
            raise UsageError("where to? Give output=PATH, a folder or a name that ends in .zip")
        if self.mouse and (self.expert or self.takeover):
            raise UsageError("mouse=true excludes expert=... and takeover=...: choose who acts")
        if self.takeover_steps is not None and self.takeover is None:
            raise UsageError(
                f"takeover_steps={self.takeover_steps}, but nobody acts before: give takeover=RUN"
            )
        for name, least in (
            ("episodes", 1),
            ("seed", 0),
            ("drift", 0),
            ("takeover_steps", 1),
            ("minimum", 1),
            ("workers", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name}={value}: it is at least {least}")
        if not 0 <= self.shoves <= 1:
            raise UsageError(f"shoves={self.shoves}: a probability is between 0 and 1")


def main(argv: Sequence[str]) -> int:
    """Run `dipole record ARGV`. Returns 0; raises UsageError for words that cannot be read."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    settings = parse(argv)
    environment = _environment(settings.task)
    return _record(settings, environment)


def parse(argv: Sequence[str]) -> RecordSettings:
    """Settings from words `key=value`; an unknown key is answered with the nearest."""
    known = [field.name for field in fields(RecordSettings)]
    values: dict[str, Any] = {}
    for word in argv:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"{word!r} is not of the form key=value")
        if key not in known:
            raise UsageError(
                f"unknown key {key!r}{nearest(key, known) or ';'} Keys: {', '.join(known)}"
            )
        if key in values:
            raise UsageError(f"{key} is given twice")
        values[key] = _read(key, text)
    return RecordSettings(**values)


def _read(key: str, text: str) -> Any:
    kind = {"mouse": "bool", "drift": "float", "shoves": "float"}.get(key, "int")
    if key in ("task", "expert", "takeover", "output"):
        return text
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return int(text) if kind == "int" else float(text)
    except (ValueError, KeyError):
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise UsageError(f"{key}={text}: it is {wanted}") from None


def _environment(task: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a task's environment."""
    folder = files("dipole.configs") / "task"
    names = sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )
    if task not in names:
        raise UsageError(
            f"unknown task {task!r}{nearest(task, names) or ';'} Known: {', '.join(names)}"
        )
    config: Any = OmegaConf.to_container(OmegaConf.create((folder / f"{task}.yaml").read_text()))
    return config["environment"]["name"], dict(config["environment"].get("options") or {})


def _record(settings: RecordSettings, environment: tuple[str, dict[str, Any]]) -> int:
    from dipole.envs.registry import environment_version

    name, options = environment
    made = _by_mouse(settings, name, options) if settings.mouse else _by_expert(settings, name)
    kept = frames = 0
    # A demonstration is a person's time: what was recorded before an interruption is kept.
    with EpisodeWriter(settings.output, fps=10.0, environment=environment_version(name)) as writer:
        try:
            for demonstration in made:
                writer.add_episode(demonstration.frames)
                kept, frames = kept + 1, frames + len(demonstration)
                if settings.mouse or kept % 10 == 0:
                    print(
                        f"{kept} episodes, {frames} frames, up to seed {demonstration.seed}",
                        flush=True,
                    )
        except KeyboardInterrupt:
            if not kept:
                raise
            print("interrupted: keeping what there is")
    print(f"{settings.output}: {kept} episodes, {frames} frames")
    return 0


def _by_expert(settings: RecordSettings, environment: str) -> Iterator[Demonstration]:
    from dipole.data.recording.record import successful
    from dipole.envs.experts import EXPERTS
    from dipole.envs.experts.demonstrate import demonstrations
    from dipole.envs.experts.disturbance import DisturbanceSpec
    from dipole.envs.experts.takeover import TakeoverSpec
    from dipole.policy.checkpoint import find_checkpoint

    expert = settings.expert or environment
    if EXPERTS[expert].environment != environment:
        raise ConfigError(
            f"expert {expert!r} acts in {EXPERTS[expert].environment!r}, not in {environment!r}, "
            f"the environment of task {settings.task!r}"
        )
    disturbance = DisturbanceSpec(drift=settings.drift, shove_probability=settings.shoves)
    takeover = None
    if settings.takeover is not None:
        run = find_checkpoint(Path(settings.takeover).expanduser())
        takeover = TakeoverSpec(str(run), settings.takeover_steps or TAKEOVER_STEPS)
    every = demonstrations(expert, settings.seed, disturbance, settings.workers, takeover)
    return successful(every, settings.episodes or 200, settings.minimum)


def _by_mouse(
    settings: RecordSettings, environment: str, options: dict[str, Any]
) -> Iterator[Demonstration]:
    from dipole.envs.mouse import MouseWindow, mouse_demonstrations
    from dipole.envs.registry import make_env

    made = make_env(environment, observation=("state",), **{"render_size": 640, **options})
    window = MouseWindow(made)
    return mouse_demonstrations(window, settings.seed, settings.episodes, settings.minimum)

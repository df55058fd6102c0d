"""`dipole.train`, `dipole.distill` and `dipole.evaluate`: what the commands do, called from Python.

import dipole

run = dipole.train(task="pusht_state", policy="unet_small", train={"steps": 200})
print(dipole.evaluate(run.checkpoint, episodes=50).metrics["success_rate"])
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dipole.apps.compose.configuration import Config, checking, leaves, plain, require_values
from dipole.apps.compose.options import Options
from dipole.apps.compose.outputs import refuse_urls
from dipole.apps.compose.overrides import OverrideChecker, keys_of, nearest_key
from dipole.apps.terminal.errors import UsageError
from dipole.data.core.errors import ConfigError

if TYPE_CHECKING:
    from dipole.envs.evaluation import Evaluation
    from dipole.policy.training.output.result import TrainResult

WHOLE = "task"  # the group that a mapping with an observation replaces: a task of the user's own


def train(
    config: Mapping[str, Any] | None = None,
    *,
    config_dir: str | Path | None = None,
    **settings: Any,
) -> "TrainResult":
    """Train a policy, or with `resume=FOLDER` go on with a run.

    config: Settings as a mapping, in the form of the keywords, which win over it; mappings of one
        name are joined, at any depth.
    config_dir: A folder of choices of your own: task="mine" is its task/mine.yaml.
    settings: The settings of `dipole train --help`. A group takes the name of a choice, as
        policy="unet", or a mapping of what differs, as train={"steps": 200}, or in a list both,
        policy=["unet", {"denoiser": {"kernel_size": 3}}]. A task of your own may be given whole, as
        a mapping.

    Returns the run's folder, newest checkpoint, step and scores. Raises ConfigError for settings
    that there are not, or cannot work.
    """
    from dipole.apps.commands.train import train_run

    return train_run(composed("train", _joined(config or {}, settings), config_dir))


def distill(teacher: str | Path, **settings: Any) -> "TrainResult":
    """Make a policy of one step out of a trained one.

    teacher: A run's folder (its newest checkpoint), or one checkpoint's folder.
    settings: Those of `dipole distill --help`: method="consistency", train={"steps": 4000}, ...

    Returns what `train` returns. Raises ConfigError for settings that there are not or cannot work.
    """
    from dipole.apps.commands.distill import distill_run

    return distill_run(composed("distill", {"teacher": str(teacher), **settings}))


def evaluate(checkpoint: str | Path, **settings: Any) -> "Evaluation":
    """Score a checkpoint in its simulator.

    checkpoint: A run's folder (its newest checkpoint), one checkpoint's folder, or an export.
    settings: Those of `dipole evaluate --help`: episodes=50, seed=0, solver={"steps": 10}, ...
        With output=FOLDER metrics, video and picture are written there, and an evaluation that lies
        there is moved to its earlier/1; without it nothing is written.

    Returns an Evaluation: `metrics` is what `metrics.json` holds, `episodes` each one's result.
    """
    import dipole.envs  # noqa: F401  simulators register themselves
    from dipole.deploy.evaluation.checkpoint import evaluate_checkpoint
    from dipole.envs.evaluation.results import check_folder, set_aside

    quiet = {} if "output" in settings else {"video_episodes": 0, "picture": False}
    alone = {"workers": 0}  # a script that starts processes has to be written for it
    config = composed("evaluate", {"checkpoint": str(checkpoint), **alone, **quiet, **settings})
    folder = Path(config["output"]).expanduser()
    if "output" in settings:
        check_folder(folder, config["keep_episodes"])
    evaluation = evaluate_checkpoint(config)
    if "output" in settings:
        set_aside(folder)
        evaluation.save(folder)
    return evaluation


def composed(
    config_name: str, settings: Mapping[str, Any], config_dir: str | Path | None = None
) -> Config:
    """The plain configuration of a command, as its command line would compose it.

    Raises ConfigError for what there is not, with the nearest name.
    """
    folders = () if config_dir is None else (Path(config_dir),)
    try:
        with checking(config_name, Options([], config_dirs=folders)) as checker:
            choices, values = _split(checker, settings)
            words = [f"{group}={choice}" for group, choice in choices.items()]
            checker.check(words, multirun=False)
            config = checker.compose(words)
            OmegaConf.set_struct(config, False)
            for key, value in values:
                _put(checker, config, key, value)
            require_values(config_name, config)
            given = {**choices, **dict(leaves(_plain(dict(values))))}
            made = plain(config)
            refuse_urls(made)
            return made | {"overrides": given}
    except UsageError as error:
        raise ConfigError(str(error)) from error


def _joined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of which those above win; a task that is given whole replaces another."""
    joined = dict(below)
    for key, value in above.items():
        before = joined.get(key)
        whole = _is_whole(key, value)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and not whole:
            joined[key] = _joined(before, value)
        else:
            joined[key] = value
    return joined


def _split(
    checker: OverrideChecker, settings: Mapping[str, Any]
) -> tuple[dict[str, str], list[tuple[str, Any]]]:
    """Choices of groups, and values that replace what the choices say."""
    choices: dict[str, str] = {}
    values: list[tuple[str, Any]] = []
    for key, value in settings.items():
        is_group = key in checker.groups
        for part in value if is_group and isinstance(value, list | tuple) else [value]:
            if is_group and isinstance(part, str):
                choices[key] = part
            else:
                values.append((key, part))
    return choices, values


def _put(checker: OverrideChecker, config: DictConfig, key: str, value: Any) -> None:
    """Set one value, or what a mapping says of several."""
    known = keys_of(OmegaConf.to_container(config))
    if key not in known:
        raise UsageError(f"unknown setting {key!r}{nearest_key(key, [*known, *checker.groups])}")
    before = OmegaConf.select(config, key)
    is_table = OmegaConf.is_dict(before) and len(before)
    if isinstance(value, Mapping) and is_table and not _is_whole(key, value):
        for name, part in value.items():
            _put(checker, config, f"{key}.{name}", part)
        return
    OmegaConf.update(config, key, _plain(value), merge=False, force_add=True)


def _is_whole(key: str, value: Any) -> bool:
    """Whether this is a task that replaces another, and not what differs in it."""
    return key == WHOLE and isinstance(value, Mapping) and "observation" in value


def _plain(value: Any) -> Any:
    """Paths as texts, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value

"""The aspects of quality of a checkpoint or an export, beside its episodes."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.envs.evaluation import Evaluation
from dipole.envs.evaluation.terms import plain
from dipole.envs.quality.held_out import HeldOut, held_out_windows
from dipole.envs.quality.settings import AspectSettings
from dipole.policy.checkpoint import find_checkpoint, read_config
from dipole.policy.core.threads import one_thread_each
from dipole.policy.execution.executor import executed_slice
from dipole.policy.policy import Policy
from dipole.policy.runtimes.exported import is_export, read_schema
from dipole.policy.runtimes.inference_policy import InferencePolicy

Config = Mapping[str, Any]


def open_held_out(config: Config, path: Path, policy: InferencePolicy) -> HeldOut | None:
    """Held-out observations of the checkpoint's own data, where aspects are asked for.

    config: The keys of configs/evaluate.yaml. Raises ConfigError where there are none.
    """
    if not config["aspects"]:
        if config["dataset"] is not None:
            raise ConfigError(f"dataset={config['dataset']} is for aspects=true alone")
        return None
    checkpoint = _checkpoint(path)
    return held_out_windows(
        read_config(checkpoint),
        str(checkpoint),
        executed_slice(policy.window, config["n_action_steps"]),
        config["aspects_observations"],
        config["dataset"],
        config["part"],
    )


def without_episodes(policy: InferencePolicy, config: Config) -> Evaluation:
    """An evaluation of a task without a simulator, to which aspects are to be added."""
    frames = executed_slice(policy.window, config["n_action_steps"])
    metrics = {
        "evaluations_per_chunk": getattr(policy, "evaluations_per_chunk", None),
        "solver": plain(policy.solver),
        "seed": config["seed"],
        "n_action_steps": frames.stop - frames.start,
    }
    return Evaluation(metrics, [])


def add_aspects(
    evaluation: Evaluation, policy: InferencePolicy, held_out: HeldOut, config: Config
) -> None:
    """Add `aspects` to the metrics, their picture and, of an image policy, what it looks at."""
    from dipole.envs.quality.aspects import measure_aspects
    from dipole.envs.quality.picture import aspects_picture

    started = time.perf_counter()
    with one_thread_each(_threads(policy, config["threads"])) as pool:
        found = measure_aspects(
            policy,
            held_out,
            executed_slice(policy.window, config["n_action_steps"]),
            AspectSettings(
                config["aspects_observations"],
                config["aspects_samples"],
                config["aspects_likelihood"],
            ),
            seed=config["seed"],
            hz=policy.features.fps,
            metrics=evaluation.metrics,
            pool=pool,
        )
    evaluation.aspects = aspects_picture(found)
    if config["picture"]:
        _add_looks(evaluation, policy, held_out)
    seconds = {"seconds": time.perf_counter() - started}
    evaluation.metrics["aspects"] = found.values | seconds


def _add_looks(evaluation: Evaluation, policy: InferencePolicy, held_out: HeldOut) -> None:
    """At as many held-out observations as the picture of episodes has moments, which is kept."""
    from dipole.envs.evaluation.episodes import PICTURED
    from dipole.envs.media.saliency import looks_picture

    looks = looks_picture(held_out.moments(PICTURED), policy)
    if evaluation.episodes:
        evaluation.looks_held_out = looks
    else:
        evaluation.looks = looks


def _threads(policy: InferencePolicy, wanted: int | None) -> int:
    """An export's runtime has threads of its own, a GPU needs none."""
    import torch

    if not isinstance(policy, Policy) or policy.device.type != "cpu":
        return 1
    return wanted or torch.get_num_threads()


def _checkpoint(path: Path) -> Path:
    """The checkpoint that an export was made of, or the one that `path` means."""
    if not is_export(path):
        return find_checkpoint(path)
    source = (read_schema(path).get("source") or {}).get("checkpoint")
    if source is None or not Path(source).is_dir():
        raise ConfigError(
            f"{path}: an export does not say which data were held out, and the checkpoint that it "
            f"was made of ({source or 'not recorded'}) is not there: evaluate the checkpoint, or "
            "set aspects=false"
        )
    return Path(source)

"""A checkpoint's or an export's score in its simulator, from a plain configuration."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.loading.features import Feature
from dipole.data.loading.targets import recorded_targets
from dipole.deploy.evaluation.aspects import add_aspects, open_held_out, without_episodes
from dipole.deploy.evaluation.settings import check_settings
from dipole.envs import EnvSpec, Evaluation, evaluate
from dipole.envs.registry import check_environment, check_seeds
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.policy.checkpoint import find_checkpoint, located, origin, read_config
from dipole.policy.core.device import choose_device
from dipole.policy.runtimes.exported import ExportedPolicy, is_export, read_schema
from dipole.policy.runtimes.inference_policy import InferencePolicy
from dipole.policy.runtimes.runnable import AUTO, EAGER, load_runnable

Config = Mapping[str, Any]
MOST_CHUNKS, GROUP = 40, 16  # of an episode of usual length; episodes inferred for at once
PASSED_ON = (
    "episodes",
    "seed",
    "workers",
    "threads",
    "n_envs",
    "n_action_steps",
    "video_episodes",
    "video",
    "video_views",
    "picture",
    "keep_episodes",
)


def evaluate_checkpoint(config: Config, say: Callable[[str], None] = print) -> Evaluation:
    """Run a checkpoint's episodes; nothing is written.

    config: The keys of configs/evaluate.yaml, "output" aside. Raises ConfigError for what cannot
    work, before anything takes long.
    """
    settings = check_settings(config)
    cluster = settings.cluster
    path = located(config["checkpoint"])
    spec = _environment(path, config["environment"], settings.aspects)
    if spec is None:
        settings.check_without_episodes()
    else:
        check_seeds(spec, config["seed"], config["episodes"])
    policy = load_runnable(
        path,
        runtime=_runtime(config, path, cluster),
        device=choose_device(config["device"]),
        weights=config["weights"],
        solver=config["solver"],
        part=config["part"],
        guidance_scale=config["guidance_scale"],
        costs=config["costs"],
        calls=_chunks(config, has_episodes=spec is not None) / GROUP,
        log=say,
    )
    held_out = open_held_out(config, path, policy)
    checkpoint, terms = _origin(path, policy, config["weights"])
    if config["part"] is not None:
        terms = {**terms, "part": config["part"]}
    if config["guidance_scale"] is not None:
        terms = {**terms, "guidance_scale": config["guidance_scale"]}
    if config["costs"]:
        terms = {**terms, "costs": config["costs"]}
    if spec is None:
        evaluation = without_episodes(policy, config)
    elif config["delay"] is None:
        passed = {key: config[key] for key in PASSED_ON}
        targets = None if config["keep_episodes"] is None else _targets(path)
        evaluation = evaluate(policy, spec, cluster=cluster, targets=targets, **passed)
    else:
        evaluation = _evaluate_delayed(policy, spec, config)
    evaluation.metrics |= {"checkpoint": origin(checkpoint), **terms}
    if held_out is not None:
        add_aspects(evaluation, policy, held_out, config)
    return evaluation


def _chunks(config: Config, has_episodes: bool) -> int:
    """At most how many chunks are drawn: for episodes, or else for aspects."""
    if has_episodes:
        return int(config["episodes"] * MOST_CHUNKS)
    return int(config["aspects_observations"] * config["aspects_samples"])


def _runtime(config: Config, path: Path, cluster: ClusterSettings | None) -> str:
    """On a cluster "auto" is a checkpoint as it is: that can be sent to whoever infers."""
    runtime: str = config["runtime"]
    return EAGER if cluster is not None and runtime == AUTO and not is_export(path) else runtime


def _evaluate_delayed(policy: InferencePolicy, spec: EnvSpec, config: Config) -> Evaluation:
    """Episode by episode, without a video: the control loop's own."""
    from dipole.deploy.evaluation.latency import evaluate_delayed

    return evaluate_delayed(
        policy,
        spec,
        delay=config["delay"],
        episodes=config["episodes"],
        seed=config["seed"],
        merger=config["merger"],
        merger_options=config["merger_options"],
        n_action_steps=config["n_action_steps"],
    )


def _environment(path: Path, given: str | Config | None, aspects: bool = False) -> EnvSpec | None:
    """The checkpoint's own environment, or the one that is given. None where there is none, and
    aspects are asked for, which need none. Otherwise raises ConfigError.

    What the checkpoint says of its own holds where the same one is given, or settings without a
    name, unless these say other. What a file names is neither imported nor started: a module or an
    interpreter has to be given.
    """
    where = path if is_export(path) else find_checkpoint(path)
    said = (read_schema(path) if is_export(path) else read_config(where)).get("environment")
    own = None if said is None else EnvSpec.read(said)
    other = dict(given) if isinstance(given, Mapping) else {}
    name = given if isinstance(given, str) else other.get("name", other.get("id"))
    if own is not None and name in (None, own.id):
        spec = _own_environment(where, own, other, named=name is not None)
    elif given is None and aspects:
        return None
    elif given is None:
        raise ConfigError(
            f"{where} is of a task without a simulator: compare its chunks with held-out "
            "demonstrations by aspects=true, give environment=NAME to evaluate it in a simulator, "
            "or try it on the robot with `dipole deploy checkpoint=... robot=YOURS dry_run=true`"
        )
    else:
        spec = EnvSpec.read(given)
    check_environment(spec)
    return spec


def _targets(path: Path) -> dict[str, Feature]:
    """What the run of a checkpoint, or of an export's that is there, has for targets."""
    from dipole.policy.core.components import OBJECTIVES
    from dipole.policy.training import objectives  # noqa: F401  they register themselves
    from dipole.policy.training.objective import wanted_targets

    if is_export(path):
        path = Path((read_schema(path).get("source") or {}).get("checkpoint") or path)
        if not path.is_dir() or is_export(path):
            return {}
    config = read_config(find_checkpoint(path))
    task = (config.get("run") or {}).get("task")
    known = (config.get("objective") or {}).get("name") in OBJECTIVES
    wanted = wanted_targets(config["objective"]) if known else None
    return recorded_targets(task, wanted) if task else {}


def _own_environment(where: Path, own: EnvSpec, given: Config, *, named: bool) -> EnvSpec:
    """A checkpoint's own, with the settings that are given, and perhaps by its name. A table of
    them (options, observation, reset) keeps what is not given; null empties it.

    Raises ConfigError for a module or an interpreter that only the file names.
    """
    if not named and own.module is not None:
        raise ConfigError(
            f"{where} was trained for {own.id!r}, which imports the module {own.module!r}: if "
            f"you trust it, say so by environment={own.id}"
        )
    if own.python is not None and "python" not in given:
        raise ConfigError(
            f"{where} was trained for {own.id!r} in an interpreter of its own, {own.python}: if "
            f"you trust it, say so by environment.python={own.python}, or give another one"
        )
    kept = own.to_dict()
    if given.get("python", "") is None:  # in this one, whose answers are not waited for
        kept.pop("timeout", None)
    changed = {name: value for name, value in given.items() if name not in ("name", "id")}
    return EnvSpec.read(
        {**kept, **{name: _over(kept.get(name), changed[name]) for name in changed}}
    )


def _over(kept: Any, given: Any) -> Any:
    """A setting that is given; of a table (options, observation, reset) over what is kept of it."""
    both = isinstance(kept, Mapping) and isinstance(given, Mapping)
    return {**kept, **given} if both else given


def _origin(path: Path, policy: InferencePolicy, weights: str) -> tuple[Path, dict[str, Any]]:
    """What is evaluated: its folder, and how the result should name it."""
    folder = path if is_export(path) else find_checkpoint(path)
    if not isinstance(policy, ExportedPolicy):
        return folder, {"weights": weights, "runtime": policy.runtime}
    source = policy.schema.get("source", {})
    return folder, {"weights": source.get("weights"), "runtime": policy.runtime, "source": source}

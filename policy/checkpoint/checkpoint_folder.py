"""Checkpoints: folders that appear whole or not at all, and whose loading executes nothing.

RUN/checkpoints/00001000/
    config.json            the policy's components, features and window; how it was trained, on what
    model.safetensors      the weights as the optimiser left them, normalisers included
    ema.safetensors        their moving average: what is evaluated and deployed
    training.safetensors   the optimiser's state
    training.json          step, counters
    manifest.json          every file's size and SHA-256

Those of an objective with more than a policy, all but the policy's for resuming alone:

    helpers.safetensors           the weights of what is trained beside the policy
    training.UPDATE.safetensors   the optimiser's state of each further update
    ema.NAME.safetensors          further moving averages

RUN/best.json              the checkpoint with the best score so far
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dipole.data import Features, WindowSpec
from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.policy.checkpoint.located import located, origin
from dipole.policy.checkpoint.migrations import VERSION, migrated_config, migrated_tensors
from dipole.policy.checkpoint.parts import use_part
from dipole.policy.checkpoint.weights import load_tensors, parameters_without_memory
from dipole.policy.core.files import (
    atomic_directory,
    describe,
    read_json,
    remove_folder,
    write_json,
    write_manifest,
)
from dipole.policy.policy import Policy, PolicyConfig

FORMAT = {"format": "dipole checkpoint", "version": VERSION}
WEIGHTS = {"ema": "ema", "raw": "model"}  # what is asked for -> the file that holds it


@dataclass(frozen=True)
class Checkpoint:
    """Everything a checkpoint holds. tensors: {file stem: {name: tensor}}."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]
    training: Mapping[str, Any]


def policy_config(policy: Policy) -> dict[str, Any]:
    """What is needed to build the policy again, as plain JSON."""
    return {
        "policy": asdict(policy.config),
        "features": policy.features.to_dict(),
        "window": asdict(policy.window),
    }


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; `folder` appears at the end, whole. One that is there already stays."""
    if folder.exists():
        return
    with atomic_directory(folder) as beside:
        for stem, tensors in checkpoint.tensors.items():
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(whole, beside / f"{stem}.safetensors")
        (beside / "config.json").write_text(json.dumps({**FORMAT, **checkpoint.config}, indent=1))
        (beside / "training.json").write_text(json.dumps(checkpoint.training, indent=1))
        write_manifest(beside, FORMAT)


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that `path` means: a checkpoint, a run (its newest one), or RUN/best; also of
    object storage, from where it is fetched (see `located`)."""
    path = located(path)
    if (path / "manifest.json").exists() or (path / "config.json").exists():
        return path
    if path.name == "best" and (path.parent / "best.json").exists():
        return path.parent / "checkpoints" / str(read_json(path.parent / "best.json")["checkpoint"])
    if not path.exists():
        raise CheckpointError(f"{path}: no such folder; give a run, or one of its checkpoints")
    found = checkpoints_of(path)
    if not found:
        raise CheckpointError(
            f"{path}: neither a checkpoint (it has no manifest.json) nor a run with one "
            "(it has no checkpoints/NNNNNNNN); give the output folder of `dipole train`"
        )
    return found[-1]


def checkpoints_of(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    numbered = [p for p in folder.iterdir() if p.name.isdigit() and (p / "manifest.json").exists()]
    return sorted(numbered, key=lambda p: int(p.name))


def prune_checkpoints(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best one."""
    found = checkpoints_of(run)
    kept = kept_checkpoints([path.name for path in found], keep, best_checkpoint(run))
    for path in found:
        if path.name not in kept:
            remove_folder(path)


def kept_checkpoints(names: Sequence[str], keep: int, best: str | None) -> list[str]:
    """Of checkpoints, oldest first, those that a run keeps: the newest so many, and the best."""
    return [n for n in names[: -max(keep, 1)] if n == best] + list(names[-max(keep, 1) :])


def best_checkpoint(run: Path) -> str | None:
    """The name of the checkpoint that RUN/best.json names."""
    best = run / "best.json"
    return str(read_json(best)["checkpoint"]) if best.exists() else None


def mark_best(run: Path, checkpoint: Path, score: float, terms: Mapping[str, Any]) -> None:
    """Say in RUN/best.json that this checkpoint is the best so far."""
    write_json(run / "best.json", {**terms, "checkpoint": checkpoint.name, "score": score})


def best_score(run: Path) -> float:
    """The score in RUN/best.json, or minus infinity."""
    best = run / "best.json"
    return float(read_json(best)["score"]) if best.exists() else float("-inf")


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json, checked."""
    config = read_json(_present(folder, "config.json"))
    if config.get("format") != FORMAT["format"]:
        raise CheckpointError(f"{folder / 'config.json'}: not a dipole checkpoint's configuration")
    version = config.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CheckpointError(
            f"{folder / 'config.json'}: version {version!r}, this dipole reads versions 1 to "
            f"{VERSION}: use the release of dipole that wrote it, or a newer one"
        )
    for key in ("policy", "features", "window"):
        if not isinstance(config.get(key), dict):
            raise CheckpointError(
                f"{folder / 'config.json'}: {key!r} is missing; the file is damaged"
            )
    try:
        policy = migrated_config(config["policy"], version)
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    return {**config, "policy": policy}


def read_training(folder: Path) -> dict[str, Any]:
    """A checkpoint's training.json: what exact resumption needs beside tensors."""
    return read_json(_present(folder, "training.json"))


def read_tensors(folder: Path, stem: str) -> dict[str, Tensor]:
    """The tensors of one of a checkpoint's files, which is whole and unchanged, or an error."""
    path = _present(folder, f"{stem}.safetensors")
    listed = read_json(_present(folder, "manifest.json")).get("files", {}).get(path.name)
    if listed != describe(path):
        raise CheckpointError(
            f"{path}: differs from what the manifest says (size or SHA-256): it was damaged or "
            "replaced after training; use another checkpoint of the run"
        )
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not readable as safetensors ({error})") from error
    version: int = read_config(folder)["version"]
    return migrated_tensors(tensors, version)


def load_policy(
    path: str | Path,
    device: torch.device | str = "cpu",
    weights: str = "ema",
    part: str | None = None,
) -> Policy:
    """The policy of a checkpoint, or of a run's newest checkpoint, ready to predict.

    weights: "ema", the moving average, or "raw", as the optimiser left them. part: of a mixture,
    the dataset that the robot is like; the policy then takes and gives its numbers. To be given
    where each has a range of its own (`normalizer: per_part`). Raises
    CheckpointError, naming the file, for anything missing, damaged or of another version,
    ConfigError for a part that is not there.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"weights is {weights!r}: choose {' or '.join(WEIGHTS)}")
    folder = find_checkpoint(path)
    policy = build_policy(folder)
    try:
        load_tensors(policy, read_tensors(folder, WEIGHTS[weights]), assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS[weights]}.safetensors: does not fit config.json beside it: {error}"
        ) from error
    use_part(policy, read_config(folder), part)
    return policy.to(device).eval().requires_grad_(False)


def build_policy(folder: Path) -> Policy:
    """The policy that a checkpoint's config.json describes; its parameters have no memory yet."""
    config = read_config(folder)
    try:
        with parameters_without_memory():
            return Policy(
                PolicyConfig.from_dict(config["policy"]),
                Features.from_dict(config["features"]),
                WindowSpec(**config["window"]),
            )
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error


def weights_source(folder: Path, weights: str) -> dict[str, Any]:
    """Which of a checkpoint's weights were taken, and the SHA-256 of their file."""
    file = f"{WEIGHTS[weights]}.safetensors"
    listed = read_json(_present(folder, "manifest.json")).get("files", {}).get(file, {})
    return {
        "checkpoint": origin(folder.resolve()),
        "weights": weights,
        "file": file,
        "sha256": listed.get("sha256"),
    }


def export_terms(folder: Path, weights: str, part: str | None = None) -> dict[str, Any]:
    """What an export says of the checkpoint it comes from. part: see `load_policy`."""
    source = weights_source(folder, weights)
    return {
        "environment": read_config(folder).get("environment"),
        "source": source if part is None else {**source, "part": part},
    }


def _present(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise CheckpointError(
            f"{folder}: {name} is missing: the checkpoint was copied or deleted in part; "
            "copy the whole folder again, or use another checkpoint of the run"
        )
    return folder / name

"""Checkpoints of earlier versions, read as if this version had written them.

Each migration turns what one version wrote into what the next one does: the configuration, and the
names and layout of weights. Those of the optimiser's state follow the weights'.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.denoisers.checkpoint_conversion import from_first_edition
from dipole.policy.encoders.cameras.first_edition import migrated_encoder, migrated_name

VERSION = 2
PREDICTIONS = {"epsilon": "noise", "v_prediction": "v"}  # version 1's names of what has another now
STEPS = 10  # version 1's, of every solver

Config = dict[str, Any]
Tensors = Mapping[str, Tensor]


def migrated_config(config: Mapping[str, Any], version: int) -> Config:
    """A checkpoint's `policy` configuration, of this version. The argument stays as it is.

    Raises ConfigError for what version 1 did not have.
    """
    found = copy.deepcopy(dict(config))
    if version < 2:
        _process_of_schedule(found)
        if isinstance(found.get("encoder"), dict):
            found["encoder"] = migrated_encoder(found["encoder"])
    return found


def migrated_tensors(tensors: Tensors, version: int) -> dict[str, Tensor]:
    """Weights by name, as this version has them; or the optimiser's state by "NAME/ENTRY"."""
    found = dict(tensors)
    if version < 2:
        found = from_first_edition(_renamed(found, _second_edition))
    return found


def _process_of_schedule(policy: Config) -> None:
    """Version 1 had one noise process, in the head's schedule."""
    head = policy.get("head", {})
    if not isinstance(head, dict) or head.get("name", "diffusion") != "diffusion":
        return
    schedule = _settings(head.pop("schedule", None), "policy.head.schedule")
    policy["prediction"] = _prediction(schedule.pop("prediction", "epsilon"))
    if "clip_sample" in schedule:
        head["clip_sample"] = schedule.pop("clip_sample")
    renamed = {"name": "schedule", "n_steps": "num_train_timesteps"}
    policy["process"] = {
        "name": "vp",
        **{renamed.get(key, key): value for key, value in schedule.items()},
    }
    solver = _settings(head.get("solver"), "policy.head.solver")
    if solver.get("name") == "ddpm":
        solver.pop("eta", None)  # which it did not heed
        solver.setdefault("steps", STEPS)
    if solver:
        head["solver"] = solver


def _settings(found: Any, place: str) -> Config:
    """A copy of settings by name; none where there are none."""
    if found is None or isinstance(found, Mapping):
        return dict(found or {})
    raise ConfigError(f"{place} is {found!r}: settings by name are needed")


def _prediction(name: Any) -> str:
    if name == "sample":
        return "sample"
    if not isinstance(name, str) or name not in PREDICTIONS:
        raise ConfigError(
            f"policy.head.schedule.prediction is {name!r}; version 1 knew "
            f"{', '.join(PREDICTIONS)}, sample"
        )
    return PREDICTIONS[name]


def _second_edition(name: str) -> str:
    return "head.process.alphas_cumprod" if name == "head.alphas" else migrated_name(name)


def _renamed(tensors: Tensors, rename: Callable[[str], str]) -> dict[str, Tensor]:
    return {rename(name): tensor for name, tensor in tensors.items()}

"""Beginning with weights of another run: the setting train.init."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dipole.data import Features
from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.data.core.registry import nearest
from dipole.policy.checkpoint import find_checkpoint, read_config, read_tensors, weights_source
from dipole.policy.config import PolicyConfig
from dipole.policy.diffusion.processes.base import Process
from dipole.policy.encoders.comparison import differences
from dipole.policy.training.config import InitConfig
from dipole.policy.training.frozen import Frozen
from dipole.policy.training.objective import Objective, short_name
from dipole.policy.training.state import HELPERS

FILES = {"ema": "ema", "raw": "model"}  # by train.init.weights
OTHER_INPUT = re.compile(r"\btime_embedding\.others\.(\d+)\.")
OF_THE_DATA = ("normalizers", "held")  # of the policy, fitted to a run's own data


@dataclass(frozen=True)
class Initialization:
    """What a run has begun with.

    source: Plain values: checkpoint, weights, file, its SHA-256.
    map: {our prefix: their prefix}, as given.
    taken: {our name: their name} of tensors that were taken.
    own: Our names that were not.
    otherwise: What our encoder sees otherwise than theirs; see `encoders.comparison`.
    """

    source: Mapping[str, Any]
    map: Mapping[str, str] | None
    taken: Mapping[str, str]
    own: tuple[str, ...]
    otherwise: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For config.json."""
        return {**self.source, "map": self.map, "tensors": len(self.taken)}

    def summary(self) -> str:
        """One line for the terminal."""
        parts = _whole_parts(self.own, self.taken)
        rest = f"; not taken: {', '.join(parts)}" if parts else ""
        if self.otherwise:
            rest += f"; the encoder sees otherwise: {', '.join(self.otherwise)}"
        total = len(self.taken) + len(self.own)
        return f"init: {len(self.taken)} of {total} tensors from {self.source['checkpoint']}{rest}"


def initialize(objective: Objective, init: InitConfig) -> Initialization:
    """Take tensors of another run's policy and helpers into an objective, in place.

    Without a map all that have the same name and are not fitted to the data (normalisers). Raises
    ConfigError where a prefix is unknown, nothing fits, or a shape differs.
    """
    assert init.source is not None
    try:
        folder = find_checkpoint(init.source)
    except CheckpointError as error:
        raise CheckpointError(f"train.init.from: {error}") from error
    ours, theirs = (
        _own_tensors(objective),
        _their_tensors(folder, init.weights, objective.begins_with_helpers),
    )
    config, policy = read_config(folder), objective.policy
    their_policy = PolicyConfig.from_dict(config["policy"])
    if init.map:
        pairs = _mapped(init.map, ours, theirs, folder)
    else:
        inputs = [each.head.get("extra_inputs") or () for each in (policy.config, their_policy)]
        pairs = _same_inputs(_same_names(ours, theirs), *inputs)
    if not pairs:
        raise ConfigError(
            f"train.init.from={init.source}: none of its {len(theirs)} tensors has the name of one "
            f"here: it has {_examples(theirs)}, here are {_examples(ours)}; say which are which by "
            "train.init.map={OURS: THEIRS}"
        )
    _refuse_shapes(pairs, ours, theirs, folder)
    with torch.no_grad():
        for our, their in pairs.items():
            ours[our].copy_(theirs[their])
    own = tuple(name for name in ours if name not in pairs and _part(name) not in OF_THE_DATA)
    otherwise = differences(
        (policy.config.encoder, policy.features),
        (their_policy.encoder, Features.from_dict(config["features"])),
        pairs,
    )
    source = weights_source(folder, init.weights)
    return Initialization(source, init.map, pairs, own, tuple(otherwise))


def _own_tensors(objective: Objective) -> dict[str, Tensor]:
    """Parameters and saved buffers, without those of frozen modules and the tables of processes,
    which are the configuration's."""
    kinds = (Frozen, Process)
    fixed = tuple(f"{n}." for n, module in objective.named_modules() if isinstance(module, kinds))
    tensors = objective.state_dict().items()
    return {short_name(name): t for name, t in tensors if not name.startswith(fixed)}


def _their_tensors(folder: Path, weights: str, helpers: bool) -> dict[str, Tensor]:
    found = read_tensors(folder, FILES[weights])
    if helpers and (folder / f"{HELPERS}.safetensors").exists():
        found = {**read_tensors(folder, HELPERS), **found}
    return found


def _same_names(ours: Iterable[str], theirs: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: name for name in ours if name in theirs and _part(name) not in OF_THE_DATA}


def _same_inputs(
    pairs: Mapping[str, str], ours: Sequence[str], theirs: Sequence[str]
) -> dict[str, str]:
    """Without the embeddings of further inputs (`other_embeddings`, by number) that are not the
    same here and there: weights that read a guidance scale say nothing of a time to jump to."""
    same = {
        str(n) for n, (our, their) in enumerate(zip(ours, theirs, strict=False)) if our == their
    }
    numbers = {name: OTHER_INPUT.search(name) for name in pairs}
    return {
        our: their
        for our, their in pairs.items()
        if (found := numbers[our]) is None or found[1] in same
    }


def _mapped(
    prefixes: Mapping[str, str],
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    folder: Path,
) -> dict[str, str]:
    """{our name: their name}; of prefixes that are within each other the longer one counts."""
    pairs: dict[str, str] = {}
    for our, their in sorted(prefixes.items(), key=lambda entry: len(entry[0])):
        rests = _within(our, ours, "this run has")
        found = _within(their, theirs, f"{folder} has")
        common = [rest for rest in rests if rest in found]
        if not common:
            raise ConfigError(
                f"train.init.map: nothing in {our!r} has a counterpart in {their!r} of {folder}: "
                f"here are {_examples(rests)}, there are {_examples(found)}"
            )
        pairs |= {_joined(our, rest): _joined(their, rest) for rest in common}
    return pairs


def _within(prefix: str, names: Iterable[str], who: str) -> list[str]:
    """The rest of each name in `prefix`. Raises ConfigError where there is none."""
    inside = [name for name in names if not prefix or f"{name}.".startswith(f"{prefix}.")]
    if not inside:
        every = {
            name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)
        }
        parts = list(dict.fromkeys(_part(name) for name in names))
        raise ConfigError(
            f"train.init.map: {who} nothing named {prefix!r}"
            f"{nearest(prefix, every) or ';'} its parts are {', '.join(parts)}"
        )
    return [name.removeprefix(prefix).removeprefix(".") for name in inside]


def _refuse_shapes(
    pairs: Mapping[str, str],
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    folder: Path,
) -> None:
    for our, their in pairs.items():
        mine, other = list(ours[our].shape), list(theirs[their].shape)
        if mine != other:
            raise ConfigError(
                f"train.init: {our} is {mine} here, and {their} of {folder} is {other}: build the "
                "network as that run did, or take those parts alone that fit, by train.init.map"
            )


def _whole_parts(own: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The shortest prefixes of the names `own` that nothing in `taken` has."""
    others = {prefix for name in taken for prefix in _prefixes(name)}
    found = (next((p for p in _prefixes(name) if p not in others), name) for name in own)
    return list(dict.fromkeys(found))


def _prefixes(name: str) -> list[str]:
    """Of "a.b.c": "a", "a.b", "a.b.c"."""
    parts = name.split(".")
    return [".".join(parts[: depth + 1]) for depth in range(len(parts))]


def _part(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def _joined(prefix: str, rest: str) -> str:
    return ".".join(part for part in (prefix, rest) if part)


def _examples(names: Iterable[str]) -> str:
    some = list(names)
    return ", ".join(some[:3]) + (", ..." if len(some) > 3 else "")

"""How a policy is trained: the published recipe, with everything a run may change."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.memory import read_bytes
from dipole.data.core.registry import nearest
from dipole.data.store.objects.url import WRITABLE, ObjectUrl
from dipole.policy.training.hardware.process_settings import PRECISIONS

WEIGHTS = ("ema", "raw")  # of a checkpoint
SHARDINGS = ("none", "full")


@dataclass(frozen=True)
class EMAConfig:
    """Moving average of the weights (Chi et al., 2023): at update n, counted from 0, the decay is
    1 - n^-power, at most max_decay, and 0 at the first two."""

    power: float = 0.75
    max_decay: float = 0.9999

    def __post_init__(self) -> None:
        if not 0 <= self.power < math.inf:
            raise ConfigError(f"train.ema.power is {self.power}: it must be 0 or more")
        if not 0 <= self.max_decay <= 1:
            raise ConfigError(f"train.ema.max_decay is {self.max_decay}: it lies between 0 and 1")


@dataclass(frozen=True)
class InitConfig:
    """Weights of another run that a new run begins with: the setting train.init, whose `from` is
    `source` here.

    source: A run or one of its checkpoints; None: none.
    map: {our prefix: their prefix} of parameters' names; None: all that have the same name.
    weights: "ema", their moving average, or "raw".
    """

    source: str | None = None
    map: Mapping[str, str] | None = None
    weights: str = "ema"

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise ConfigError(
                f"train.init.weights is {self.weights!r}: choose {' or '.join(WEIGHTS)}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InitConfig":
        """From {from:, map:, weights:}."""
        known = ("from", "map", "weights")
        for key in values:
            if key not in known:
                raise ConfigError(f"there is no train.init.{key}{nearest(str(key), known)}")
        source = values.get("from")
        if not isinstance(source, str | None):
            raise ConfigError(f"train.init.from is {source!r}: a path or null is needed")
        named = {"source" if key == "from" else key: value for key, value in values.items()}
        return from_mapping(cls, named, "train.init")


@dataclass(frozen=True)
class TrainConfig:
    """A step is one update of the optimiser, over `accumulate` batches of `batch_size` windows.

    The defaults are the recipe of Chi et al., 2023. A period of 0 switches off what it is of.

    learning_rates: Of parts of the policy, by the beginning of their parameters' names
        ("encoder.*.backbone"), instead of learning_rate; the first that fits counts, and all
        follow one schedule.
    weight_decays: Of parts, likewise, instead of weight_decay.
    decay_norms_and_biases: Whether weight_decay is that of vectors too (as published), or 0.
    init: Weights to begin with, see `InitConfig`.
    threads: On a processor, dividing a batch's rows where the denoiser allows it; None: whatever is
        fastest, tried out, or as many as torch says where deterministic.
    amp: bf16 autocast; None: where that is faster on the device.
    matmul_precision: Of fp32 products on a GPU, for the time of training: "high" is TF32,
        "highest" fp32, several times slower, "medium" bf16.
    compile: torch.compile, of the U-Net's norms on a CPU, of all of it elsewhere.
    deterministic: Bit for bit the same result on the same machine, also after resuming.
    shuffle_blocks: Windows are drawn out of so many of the dataset's shards at a time, for data
        that fit on no disk; None: out of all.
    rank_timeout: Seconds; a process of several that does not come to where the others wait ends the
        run then, and is named.
    sharding: "full": each of several processes has a share of weights, gradients, averages and the
        optimiser's state, see `FullSharding`; "none": on GPUs and over machines each has all.
    overlap_gradients: Whether gradients are sent to other processes during the backward pass, where
        they are sent.
    background_checkpoints: Whether training goes on while a checkpoint is written, of which memory
        holds a copy meanwhile.
    copy_to: A place in object storage, s3://BUCKET/NAME, where checkpoints and the run's small
        files are written too, in the background; None: nowhere.
    memory_limit: What data in memory may take, in bytes or as "4GiB", over all processes of a
        machine; None: half of what is free.
    """

    steps: int = 7000
    batch_size: int = 256
    accumulate: int = 1
    learning_rate: float = 1e-4
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.95, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-6
    weight_decays: Mapping[str, float] = field(default_factory=dict)
    decay_norms_and_biases: bool = True
    warmup_steps: int = 500
    grad_clip: float | None = None
    ema: EMAConfig = field(default_factory=EMAConfig)
    init: Mapping[str, Any] = field(
        default_factory=lambda: {"from": None, "map": None, "weights": "ema"}
    )
    seed: int = 42
    device: str = "auto"
    threads: int | None = None
    amp: bool | None = False
    matmul_precision: str = "high"
    compile: bool = False
    deterministic: bool = False
    workers: int = 0
    memory_limit: int | str | None = None
    shuffle_blocks: int | None = None
    log_every: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    background_checkpoints: bool = True
    copy_to: str | None = None
    validate_every: int = 1000
    validation_windows: int = 1024
    evaluate_every: int = 0
    wandb: bool = False
    rank_timeout: float = 600.0
    sharding: str = "none"
    overlap_gradients: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} is {getattr(self, name)}: it must be at least 1")
        periods = ("checkpoint_every", "validate_every", "evaluate_every")
        for name in ("warmup_steps", "seed", "workers", *periods):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} is {getattr(self, name)}: it must not be negative")
        for name in ("threads", "shuffle_blocks"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"train.{name} is {value}: it must be at least 1, or null")
        try:
            self.memory_limit_bytes  # noqa: B018  raises where it is none
        except ConfigError as error:
            raise ConfigError(f"train.memory_limit: {error}") from error
        if self.validation_windows < 1:
            raise ConfigError(
                f"train.validation_windows is {self.validation_windows}: it must be at least 1; "
                "train.validate_every=0 switches validation off"
            )
        if self.matmul_precision not in PRECISIONS:
            raise ConfigError(
                f"train.matmul_precision is {self.matmul_precision!r}"
                f"{nearest(self.matmul_precision, PRECISIONS) or ';'} it is one of "
                f"{', '.join(PRECISIONS)}"
            )
        if self.sharding not in SHARDINGS:
            raise ConfigError(
                f"train.sharding is {self.sharding!r}{nearest(self.sharding, SHARDINGS) or ';'} "
                f"choose {' or '.join(SHARDINGS)}"
            )
        self.copy_place  # noqa: B018  raises where it is none
        self._check_optimizer()
        self.initial_weights  # noqa: B018  raises where it cannot be

    def _check_optimizer(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"train.learning_rate is {self.learning_rate}: it must be positive")
        if self.grad_clip is not None and not self.grad_clip > 0:
            raise ConfigError(
                f"train.grad_clip is {self.grad_clip}: it must be positive, or null to clip nothing"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"train.betas is {list(self.betas)}: each must be at least 0 and below 1"
            )
        if not 0 < self.eps < math.inf:
            raise ConfigError(f"train.eps is {self.eps}: it must be positive")
        for part, rate in self.learning_rates.items():
            if not 0 < rate < math.inf:
                raise ConfigError(
                    f"train.learning_rates: {part} has {rate}: it must be positive; to leave a "
                    "backbone as it is, set policy.encoder.frozen=true"
                )
        for part, decay in {"weight_decay": self.weight_decay, **self.weight_decays}.items():
            if not 0 <= decay < math.inf:
                raise ConfigError(f"train.weight_decays: {part} has {decay}: it must be 0 or more")

    @property
    def memory_limit_bytes(self) -> int | None:
        """`memory_limit` as a number."""
        return None if self.memory_limit is None else read_bytes(self.memory_limit)

    @property
    def copy_place(self) -> ObjectUrl | None:
        """`copy_to`, checked."""
        if self.copy_to is None:
            return None
        try:
            place = ObjectUrl.parse(self.copy_to)
        except DataError as error:
            raise ConfigError(f"train.copy_to: {error}") from error
        if place.scheme not in WRITABLE:
            raise ConfigError(
                f"train.copy_to={place}: a web server cannot be written to: give s3://, gs:// or "
                "az://"
            )
        return place

    @property
    def initial_weights(self) -> InitConfig:
        """`init`, checked."""
        return InitConfig.from_dict(self.init)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """From plain values; an unknown key is an error that names the nearest."""
        return from_mapping(cls, values, "train")

"""How a policy is trained: the published recipe, with everything a run may change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.memory import read_bytes
from dipole.data.core.registry import nearest
from dipole.policy.training.hardware.process_settings import PRECISIONS


@dataclass(frozen=True)
class EMAConfig:
    """Moving average of the weights (Chi et al., 2023): at update n, counted from 0, the decay is
    1 - n^-power, at most max_decay, and 0 at the first two."""

    power: float = 0.75
    max_decay: float = 0.9999


@dataclass(frozen=True)
class TrainConfig:
    """A step is one update of the optimiser, over `accumulate` batches of `batch_size` windows.

    The defaults are the recipe of Chi et al., 2023. learning_rates: of parts of the policy, by the
    beginning of their parameters' names ("encoder.*.backbone"), instead of learning_rate; the
    first that fits counts, and all follow one schedule. amp: bf16 autocast; None: where that
    is faster on the device. compile: torch.compile, of the norms alone. deterministic:
    bit-for-bit the same result on the same machine, also after resuming. threads: on a processor,
    dividing a batch's rows where the denoiser allows it; None: whatever is fastest, tried out, or
    as many as torch says where deterministic. matmul_precision: of fp32 products on a GPU, for the
    time of training: "high" is TF32, "highest" fp32, several times slower, "medium" bf16.
    memory_limit: what data in memory may take, in bytes or as "4GiB", over all processes of a
    machine; None: half of what is free.
    A period of 0 switches off what it is the period of.
    """

    steps: int = 7000
    batch_size: int = 256
    accumulate: int = 1
    learning_rate: float = 1e-4
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.95, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-6
    warmup_steps: int = 500
    grad_clip: float | None = None
    ema: EMAConfig = field(default_factory=EMAConfig)
    seed: int = 42
    device: str = "auto"
    threads: int | None = None
    amp: bool | None = False
    matmul_precision: str = "high"
    compile: bool = False
    deterministic: bool = False
    workers: int = 0
    memory_limit: int | str | None = None
    log_every: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    validate_every: int = 1000
    validation_windows: int = 1024
    evaluate_every: int = 0
    wandb: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("warmup_steps", "checkpoint_every", "validate_every", "evaluate_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} is {getattr(self, name)}: it must not be negative")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"train.threads is {self.threads}: it must be at least 1, or null")
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
        if self.learning_rate <= 0:
            raise ConfigError(f"train.learning_rate is {self.learning_rate}: it must be positive")
        for part, rate in self.learning_rates.items():
            if not rate > 0:
                raise ConfigError(
                    f"train.learning_rates: {part} has {rate}: it must be positive; to leave a "
                    "backbone as it is, set policy.encoder.frozen=true"
                )

    @property
    def memory_limit_bytes(self) -> int | None:
        """`memory_limit` as a number."""
        return None if self.memory_limit is None else read_bytes(self.memory_limit)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """From plain values; an unknown key is an error that names the nearest."""
        return from_mapping(cls, values, "train")

"""Where a run's numbers go: RUN/log.jsonl, TensorBoard, and Weights & Biases if asked for."""

import json
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.policy.core.files import atomic_write


class RunLog:
    """One JSON object a line, the same scalars in TensorBoard. A resumed run drops the lines of
    later steps.

    >>> log = RunLog(Path("runs/example"))               # doctest: +SKIP
    >>> log.write(50, {"train/loss": 0.71})              # doctest: +SKIP
    """

    def __init__(self, run: Path, step: int = 0, wandb: bool = False, config: Any = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        run.mkdir(parents=True, exist_ok=True)
        self.path = run / "log.jsonl"
        self._cut(step)
        self._file = self.path.open("a")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
        self._wandb = _start_wandb(run, config) if wandb else None

    def write(self, step: int, values: dict[str, Any]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        scalars = {k: v for k, v in values.items() if isinstance(v, int | float)}
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def has(self, step: int, prefix: str) -> bool:
        """Whether a key that begins with `prefix` was logged at `step`."""
        lines = (line for line in read_log(self.path) if line["step"] == step)
        return any(key.startswith(prefix) for line in lines for key in line)

    def close(self) -> None:
        self._file.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _cut(self, step: int) -> None:
        """Drop what was logged after `step`: the resumed run writes it again."""
        if not self.path.exists():
            return
        kept = [json.dumps(line) + "\n" for line in read_log(self.path) if line["step"] <= step]
        with atomic_write(self.path) as beside:
            beside.write_text("".join(kept))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl; a last line that a killed process left unfinished is dropped."""
    lines = path.read_text().splitlines()
    read = []
    for number, line in enumerate(lines, start=1):
        try:
            read.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ConfigError(f"{path}, line {number}: not JSON ({error})") from error
    return read


class NoLog:
    """Of the processes that write nothing."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        pass

    def has(self, step: int, prefix: str) -> bool:
        return False

    def close(self) -> None:
        pass


def require_wandb() -> Any:
    """The library. Raises ConfigError where it is not installed."""
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "train.wandb is on, but wandb is not installed: pip install 'dipole[wandb]', or set "
            "train.wandb=false"
        ) from error
    return wandb


def _start_wandb(run: Path, config: Any) -> Any:
    wandb = require_wandb()
    return wandb.init(project="dipole", dir=str(run), config=config, name=run.name)

"""Whether losses, gradients, and what would be saved are finite."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dipole.data.core.errors import DipoleError
from dipole.policy.training.optimization.shards import local
from dipole.policy.training.process.group import Group


class TrainingDivergedError(DipoleError):
    """The loss, a gradient or a weight is no longer a number."""


class FiniteCheck:
    """Remembers the first step whose loss or gradient was not finite, without waiting for the
    device; `raise_bad` waits.

    has_checkpoint: Whether the run has one, or one is being written.
    """

    def __init__(self, device: torch.device, run: Path, has_checkpoint: bool = False) -> None:
        self.device, self.run, self.has_checkpoint = device, run, has_checkpoint
        self._first: dict[str, Tensor] = {}

    def note(self, what: str, step: int, value: Tensor) -> None:
        """what: In a message: "the loss"."""
        first = self._first.get(what)
        if first is None:
            first = torch.full((), -1, device=self.device)
        is_first = (first < 0) & ~torch.isfinite(value.detach())
        self._first[what] = torch.where(is_first, step, first)

    def raise_bad(self) -> None:
        """Raises TrainingDivergedError for a step that was noted."""
        found = {what: int(step) for what, step in self._first.items()}
        bad = {what: step for what, step in found.items() if step >= 0}
        if bad:
            what = min(bad, key=lambda each: bad[each])
            raise self._error(f"{what} of step {bad[what]} is not a number")

    def share(self, group: Group) -> None:
        """What any process has noted, all know from now on."""
        if group.is_alone:
            return
        for found in group.gather({what: int(step) for what, step in self._first.items()}):
            for what, step in found.items():
                known = int(self._first.get(what, torch.tensor(-1)))
                earliest = min((each for each in (step, known) if each >= 0), default=-1)
                self._first[what] = torch.full((), earliest, device=self.device)

    def raise_bad_weights(
        self, step: int, parts: Mapping[str, Iterable[Tensor]], group: Group | None = None
    ) -> None:
        """Raises TrainingDivergedError where what is to be saved is not finite: a loss can be
        finite where its gradient is not. group: Processes of which each has a shard of it."""
        bad = [what for what, tensors in parts.items() if not all(map(_is_finite, tensors))]
        found = [what for each in (group or Group()).gather(bad) for what in each]
        if found:
            raise self._error(f"after step {step} {found[0]} are not all numbers")

    def _error(self, finding: str) -> TrainingDivergedError:
        """What is left of the run, and how it goes on: its folder is taken either way."""
        again = f"dipole train resume={self.run} train.learning_rate=LOWER"
        if self.has_checkpoint:
            left = f"the checkpoints in {self.run / 'checkpoints'} are from before it"
            remedy = f"go on from the newest with: {again}"
        else:
            left = "there is no checkpoint yet"
            remedy = f"begin again in another output, or in this one with: {again}"
        return TrainingDivergedError(
            f"{finding}: training stopped, and {left}. Check the data with `dipole data validate`; "
            f"{remedy} (or train.grad_clip=1)"
        )


def _is_finite(tensor: Tensor) -> bool:
    own = local(tensor)
    return not own.is_floating_point() or bool(torch.isfinite(own).all())


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The length of all gradients together, of shards of them that of those, a scalar."""
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)

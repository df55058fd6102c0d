"""AdamW over tensors that lie in memory in another order than that of their axes."""

from typing import Any

import torch
from torch import Tensor


class AdamW(torch.optim.AdamW):
    """torch's. Its fused update copies what is not contiguous, there and back, in several times
    the time of the update itself; here it is given the same tensors as contiguous views.

    Such are the U-Net's convolutions on a CPU (`denoisers/cpu_unet/weights.py`). State keeps the
    shapes of the parameters.
    """

    def make_state(self) -> None:
        """What the first update of each parameter would begin with, where there is nothing yet."""
        for parameter in (each for group in self.param_groups for each in group["params"]):
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }

    def _init_group(self, group: dict[str, Any], *given: Any) -> Any:
        found = super()._init_group(group, *given)  # type: ignore[no-untyped-call]
        parameters, *others = (each for each in given if isinstance(each, list))
        for number, parameter in enumerate(parameters):
            if not parameter.is_contiguous():
                alike = [
                    each
                    for each in (parameters, *others)
                    if len(each) == len(parameters) and each[number].shape == parameter.shape
                ]
                _view_in_order(alike, number)
        return found


def _view_in_order(lists: list[list[Tensor]], number: int) -> None:
    """Replace an entry of each list by its view in the order of memory, where all have the same."""
    first = lists[0][number]
    strides = first.stride()
    order = sorted(range(first.dim()), key=lambda axis: -strides[axis])
    same = all(each[number].stride() == strides for each in lists)
    if same and first.permute(order).is_contiguous():
        for each in lists:
            each[number] = each[number].permute(order)

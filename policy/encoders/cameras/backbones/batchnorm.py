"""BatchNorm and averaged weights do not go together; here are its two replacements.

The running statistics belong to the weights as the optimiser left them, step by step. An average of
weights with the statistics of the newest ones is a network that nobody trained.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dipole.data.core.errors import ConfigError
from dipole.policy.encoders.cameras.convolutions.group_norm import PictureGroupNorm


class FrozenBatchNorm(nn.Module):
    """BatchNorm whose statistics and affine map are constants; takes BatchNorm's weights by name.

    For pretrained networks: what they compute in evaluation, in training too.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        for name in ("weight", "running_var"):
            self.register_buffer(name, torch.ones(channels))
        for name in ("bias", "running_mean"):
            self.register_buffer(name, torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C, h, w]"""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


def freeze_batchnorm(network: nn.Module) -> None:
    """Replace every BatchNorm by the constant map that it is in evaluation."""
    _replace(network, _frozen)


def to_groupnorm(network: nn.Module, channels_per_group: int = 16) -> None:
    """Replace every BatchNorm by GroupNorm, for networks that are trained from the start."""

    def grouped(norm: nn.BatchNorm2d) -> nn.Module:
        groups = max(1, norm.num_features // channels_per_group)
        if norm.num_features % groups:
            groups = 1
        return PictureGroupNorm(groups, norm.num_features)

    _replace(network, grouped)


def refuse_batchnorm(network: nn.Module) -> None:
    """Raise ConfigError, naming it, for a norm whose statistics move as training goes on."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            raise ConfigError(
                f"{name} is a {type(module).__name__}: its running statistics do not go with "
                "averaged weights; use GroupNorm, or `freeze_batchnorm` for pretrained weights"
            )


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm:
    frozen = FrozenBatchNorm(norm.num_features, norm.eps)
    # Without memory they are those of a network whose weights are to come.
    known = {name: value for name, value in norm.state_dict().items() if not value.is_meta}
    frozen.load_state_dict(known, strict=False)
    return frozen


def _replace(network: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, make(child))

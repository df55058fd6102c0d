"""A ControlNet branch of the U-Net: conditioning that is added to a network already trained.

    chunk, time, context ─> frozen U-Net ──────────────+─> prediction
            hint ─> zero convolution ─+                │
    chunk ───────────────────────────>+─> copy of its encoder ─> zero convolutions ─> residuals

At initialisation all residuals are zero, and the prediction is the U-Net's (Zhang et al., 2023,
arXiv 2302.05543).
"""

import copy

from torch import Tensor, nn

from dipole.policy.context import Context
from dipole.policy.denoisers.unet1d import ConditionalUnet1D


class UnetBranch(nn.Module):
    """(chunk, time, context, hint) -> the `residuals` of a `ConditionalUnet1D`.

    unet: Whose encoder is copied, weights included.
    hint_dim: F, numbers of the hint for each frame of the chunk; None for no hint.
    """

    def __init__(self, unet: ConditionalUnet1D, hint_dim: int | None = None) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(unet).requires_grad_(True)
        n_stages = len(unet.down_dims)
        self.encoder.up, self.encoder.final = nn.ModuleList(), nn.Sequential()
        self.encoder.attention = self.encoder.attention[: n_stages + 1]
        widths = [*unet.down_dims[1:], unet.down_dims[-1]]
        self.outputs = nn.ModuleList(_zero_convolution(width, width) for width in widths)
        channels = unet.action_dim
        self.hint = None if hint_dim is None else _zero_convolution(hint_dim, channels)

    def forward(
        self, x: Tensor, time: Tensor, context: Context | Tensor, hint: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """x: [B, H, A]; time, context: as the U-Net's; hint: [B, H, F]."""
        if self.hint is not None and hint is not None:
            x = x + self.hint(hint.transpose(1, 2)).transpose(1, 2)
        features = self.encoder.encoder_features(x, time, context)
        return tuple(output(each) for output, each in zip(self.outputs, features, strict=True))


def _zero_convolution(channels_in: int, channels_out: int) -> nn.Conv1d:
    conv = nn.Conv1d(channels_in, channels_out, 1)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv

"""Which device computes."""

import torch

from dipole.data.core.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The named device; "auto" is the accelerator where there is one, else the processor."""
    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"device={name} cannot be used: {error}") from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

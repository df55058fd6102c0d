"""Where chunks are computed: in a process, a thread, on another computer, or on a virtual clock."""

from dipole.deploy.inference.base import Inference, InferenceDied
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.types import PolicySpec

__all__ = ["Inference", "InferenceDied", "PolicySpec", "VirtualInference"]

"""Noise processes: from a chunk to noise. Add one in a file of its own and import it here."""

from dipole.policy.diffusion.processes.base import Process
from dipole.policy.diffusion.processes.edm import EDM
from dipole.policy.diffusion.processes.flow import Flow
from dipole.policy.diffusion.processes.vp import VariancePreserving

__all__ = ["EDM", "Flow", "Process", "VariancePreserving"]

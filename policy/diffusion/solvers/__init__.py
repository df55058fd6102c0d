"""Solvers: from noise to a chunk, as tables. Add one in a file of its own and import it here."""

from dipole.policy.diffusion.solvers.base import (
    Solver,
    SolverStep,
    check_solver,
    solver_from,
    solver_with,
    table_of,
)
from dipole.policy.diffusion.solvers.ddim import DDIM
from dipole.policy.diffusion.solvers.ddpm import DDPM
from dipole.policy.diffusion.solvers.dpmpp import DPMSolverPP2M, DPMSolverPP3M
from dipole.policy.diffusion.solvers.euler import Euler
from dipole.policy.diffusion.solvers.heun import Heun
from dipole.policy.diffusion.solvers.jump import Jump
from dipole.policy.diffusion.solvers.plms import PLMS

__all__ = [
    "DDIM",
    "DDPM",
    "PLMS",
    "DPMSolverPP2M",
    "DPMSolverPP3M",
    "Euler",
    "Heun",
    "Jump",
    "Solver",
    "SolverStep",
    "check_solver",
    "solver_from",
    "solver_with",
    "table_of",
]

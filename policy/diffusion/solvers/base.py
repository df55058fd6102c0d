"""What a solver is: a function from noise levels to a table, one row an evaluation of the network.

A row is applied by `dipole.policy.diffusion.denoising`:

    x' = sum_i from_x[i] x_i + from_clean[i] clean_i + from_noise[i] noise_i  + fresh_noise z

Index 0 is this evaluation's: x_0 the network was asked about, clean_0 and noise_0 are what its
output says. Index 1 is the evaluation before, and so on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import check_options
from dipole.policy.core.components import SOLVERS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.processes.base import Process


@dataclass(frozen=True)
class SolverStep:
    """One evaluation of the network, at `level`; afterwards x is at `next`. See above.

    target: The level that networks are asked to jump to which are told one; None: `level` itself,
        at which they say what any network says.
    begin: Where the step from which x arrives at `next` begins, if that is not `level`: of a row
        that makes a step again from what is said where it ends, or within it.
    """

    level: Level
    next: Level
    from_x: tuple[float, ...] = ()
    from_clean: tuple[float, ...] = ()
    from_noise: tuple[float, ...] = ()
    fresh_noise: float = 0.0
    target: Level | None = None
    begin: Level | None = None


@dataclass(frozen=True)
class Solver:
    """How a chunk is drawn; a subclass's further fields are its own options.

    steps: Steps from noise to the chunk; most solvers evaluate the network once a step.
    spacing: Which noise levels they visit, see `Process.grid`; None: as the process prefers.
    rho: Of spacing "karras".
    shift: Of spacing "shifted".
    """

    name: ClassVar[str]

    steps: int = 10
    spacing: str | None = None
    rho: float = 7.0
    shift: float = 3.0

    def __post_init__(self) -> None:
        if self.spacing == "linspace":
            raise ConfigError(
                "solver.spacing is 'linspace', with whose levels diffusers' DDIM takes strides "
                "that do not connect them: choose uniform, leading or trailing"
            )
        if self.steps < 1:
            raise ConfigError(f"solver.steps is {self.steps}: at least one is needed")
        for name in ("rho", "shift"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"solver.{name} is {getattr(self, name)}: it must be positive")

    def levels(self, process: Process) -> list[Level]:
        """The levels that are visited. Raises ConfigError where the process has no such."""
        return process.grid(self.steps, self.spacing, rho=self.rho, shift=self.shift)

    def table(self, levels: Sequence[Level]) -> list[SolverStep]:
        """The rows that lead from the first of these levels to the last, which is clean."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Name and options, as JSON has them."""
        return {"name": self.name, **asdict(self)}


def table_of(solver: Solver, process: Process) -> list[SolverStep]:
    """A solver's rows over the levels of a process. Raises ConfigError where they do not fit."""
    return solver.table(solver.levels(process))


def check_solver(solver: Any) -> None:
    """Raises ConfigError for what is neither a solver nor None."""
    if not isinstance(solver, Solver | None):
        raise ConfigError(
            f"solver is {solver!r}: a Solver is needed, such as DDIM(steps=10), or "
            "solver_from({'name': 'ddim', 'steps': 10}), of dipole.policy.diffusion.solvers"
        )


def solver_from(values: Mapping[str, Any], where: str = "solver") -> Solver:
    """A solver of its name and options, as `Solver.to_dict` gives them.

    where: What the mapping is called in messages.
    Raises ConfigError for an unknown name, or an option that this solver does not have.
    """
    options = {key: value for key, value in values.items() if key != "name"}
    if "name" not in values:
        raise ConfigError(f"{where} has no name; known: {', '.join(SOLVERS.names())}")
    kind = SOLVERS[values["name"]]
    check_options(where, values["name"], kind, options)
    solver: Solver = from_mapping(kind, options, where)
    return solver


def solver_with(solver: Solver, changes: Mapping[str, Any], where: str = "solver") -> Solver:
    """The solver with some entries replaced; None replaces nothing.

    Another name is another solver: it has its own defaults, and nothing of this one's options.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    if not given:
        return solver
    if given.get("name", solver.name) != solver.name:
        return solver_from(given, where)
    return solver_from({**solver.to_dict(), **given}, where)

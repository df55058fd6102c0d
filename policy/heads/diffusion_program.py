"""A solver's table as a program: its rows are constants, its histories the state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dipole.policy.context import Context
from dipole.policy.diffusion.denoising import denoise, depths, next_x
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import clipped
from dipole.policy.diffusion.solvers import SolverStep, table_of
from dipole.policy.heads.program import ChunkProgram, Nested, State

if TYPE_CHECKING:
    from dipole.policy.heads.diffusion import DiffusionHead

HISTORIES = ("x", "clean", "noise")  # as their weights in a row: from_x, from_clean, from_noise


class DiffusionProgram(ChunkProgram):
    """state: Of each history as many earlier entries as the table's rows take, oldest first: "x_1",
    "clean_2", "clean_1", ...; then "x". OpenVINO copies them so from step to step, one after
    another, and an entry must be copied before a newer one takes its place.

    constants: "time", what the denoiser makes of a row's time; "signal" and "noise", its level;
    "from_x", "from_clean", "from_noise", with zeros where a row has fewer; "fresh_noise".
    """

    def __init__(self, head: "DiffusionHead") -> None:
        super().__init__(head)
        self.diffusion = head
        self.table = table_of(head.solver, head.process)
        self.fresh_noise = [step.fresh_noise > 0 for step in self.table]
        self.depths = dict(zip(HISTORIES, depths(self.table), strict=True))
        self.scale = head.process.start_scale(self.table[0].level)
        levels = [step.level for step in self.table]
        self.constants = {
            "time": head.prepared_times(self.table),
            "signal": torch.tensor([level.signal for level in levels]),
            "noise": torch.tensor([level.noise for level in levels]),
            **{f"from_{name}": self._weights(name) for name, depth in self.depths.items() if depth},
        }
        if any(self.fresh_noise):
            self.constants["fresh_noise"] = torch.tensor([s.fresh_noise for s in self.table])

    def prepare(self, context: Context) -> Nested:
        return self.diffusion.denoiser.prepare_context(context)

    def start(self, noise: Tensor | None, prepared: Nested) -> State:
        assert noise is not None
        earlier = [entry for name in HISTORIES for entry in reversed(self._entries(name))]
        return dict.fromkeys(earlier, torch.zeros_like(noise)) | {"x": self._scaled(noise)}

    def step(
        self, state: State, row: Mapping[str, Nested], prepared: Nested, fresh: Tensor | None
    ) -> State:
        level = Level(None, row["signal"][0], row["noise"][0])
        raw = self.diffusion.estimate(state["x"], level, row["time"], prepared)
        found = clipped(raw, self.diffusion.clip_sample)
        newest = {"x": state["x"], "clean": found.clean, "noise": found.noise}
        histories = {
            name: [newest[name], *(state[entry] for entry in self._entries(name))]
            for name in HISTORIES
        }
        weights = {
            f"from_{name}": row[f"from_{name}"][0].unbind()
            for name in HISTORIES
            if self.depths[name]
        }
        added: Any = row["fresh_noise"][0] if fresh is not None else 0.0
        step = SolverStep(level, level, **weights, fresh_noise=added)
        xs, cleans, noises = histories.values()
        after = {"x": next_x(step, xs, cleans, noises, fresh)}
        for name in HISTORIES:
            after |= zip(self._entries(name), histories[name], strict=False)
        return after

    def chunk(
        self,
        context: Context,
        noise: Tensor | None,
        fresh: Sequence[Tensor],
        constants: Mapping[str, Nested],
    ) -> Tensor:
        """As the head does, with the numbers of the table in double precision."""
        assert noise is not None
        return denoise(
            self.diffusion.estimators(self.table, constants["time"], context),
            self._scaled(noise),
            self.table,
            draw=iter(fresh).__next__,
            clip=self.diffusion.clip_sample,
        )

    def _scaled(self, noise: Tensor) -> Tensor:
        return noise if self.scale == 1 else self.scale * noise

    def _weights(self, name: str) -> Tensor:
        """[S, depth]"""
        rows: Iterable[Any] = (getattr(step, f"from_{name}") for step in self.table)
        return torch.tensor([[*row, *[0.0] * (self.depths[name] - len(row))] for row in rows])

    def _entries(self, name: str) -> list[str]:
        """The earlier entries of a history, newest first."""
        return [f"{name}_{number}" for number in range(1, self.depths[name])]

"""A policy for tests of evaluation. Apart from the simulator: workers need not import torch."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from dipole.data import WindowSpec


@dataclass(frozen=True)
class FakeSolver:
    name: str = "fake"
    steps: int = 3


class FakePolicy:
    """Random convolutions over noise, shown two numbers: enough to amplify any difference."""

    features = SimpleNamespace(observation={"position": None})
    device = torch.device("cpu")
    solver = FakeSolver()
    checkpoint = Path("runs/fake")

    def __init__(self, window=None):
        self.window = window or WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
        torch.manual_seed(0)
        self.context = nn.Linear(2 * self.window.n_obs_steps, 32)
        self.into, self.out = nn.Conv1d(2, 32, 5, padding=2), nn.Conv1d(32, 2, 5, padding=2)
        self.calls = 0

    def predict(self, observation, generator=None):
        self.calls += 1
        assert len(generator) == len(observation["position"])
        context = self.context(observation["position"].flatten(1))[..., None]
        noise = torch.stack([torch.randn(2, self.window.horizon, generator=g) for g in generator])
        return torch.tanh(self.out(nn.functional.mish(self.into(noise) + context))).transpose(1, 2)

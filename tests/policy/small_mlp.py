"""A network that learns a small distribution in a second, for tests of training and sampling."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from dipole.policy.core.components import DENOISERS
from dipole.policy.denoisers.base import Denoiser

NAME = "small_mlp"


class SmallMLP(Denoiser):
    """All numbers of chunk, context's vector and time into layers with shortcuts."""

    def __init__(self, action_dim, horizon, context, width=256, depth=2):
        super().__init__()
        self.shape = (horizon, action_dim)
        self.register_buffer("frequencies", torch.exp(torch.linspace(math.log(5e-3), 0.4, 16)))
        numbers = horizon * action_dim
        self.first = nn.Linear(numbers + context.vector_dim + 32, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, numbers)

    def forward(self, x, time, context, residuals=()):
        phase = time[:, None].to(x.dtype) * self.frequencies
        h = self.first(torch.cat([x.flatten(1), context.vector, phase.sin(), phase.cos()], 1))
        for layer in self.layers:
            h = h + layer(F.silu(h))
        return self.last(F.silu(h)).view(-1, *self.shape)


if NAME not in DENOISERS.names():
    DENOISERS.add(NAME)(SmallMLP)


def train(loss_of, parameters, steps, learning_rate=3e-3):
    """AdamW with a cosine to 0; loss_of: no arguments -> the loss of the next batch."""
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        rate = learning_rate * min(1, (step + 1) / 50) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()

"""How known parts of a chunk pull at the rest of it, in numbers. No torch: a robot's side reads it.

Real-time chunking (Black, Galliker & Levine, 2025, arXiv 2506.07339) guides the next chunk by what
is left of the present one, action by action:

    action         0   1   2   3   4   5   6   7   8   9  10  11
    present chunk  x   x   x   x   x   x   x   x
    weight         1   1   1  .6  .4  .2  .1  .0   0   0   0   0
                   └ delay ┘  └─── decays ────┘   └─ nothing is known ─┘
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest

METHODS = ("replace", "identity", "jacobian", "prefix")  # their order is part of the protocol
GIVEN = "given"  # a method that a policy uses by itself, and nobody asks for: see known_ends.py
DECAYS = ("exponential", "linear", "none", "hard")


@dataclass(frozen=True)
class InpaintingGuidance:
    """What is done about known parts at every denoising step.

    method: "jacobian" moves the predicted clean chunk towards the known values through the
        network's derivative, as the paper does, at the price of a backward pass a step; "identity"
        takes the derivative for 1, which costs nothing and holds harder; "replace" sets the parts
        of weight 1 to their noised values (Lugmayr et al., 2022); "prefix" gives the first actions
        to a network that was trained to go on from them (arXiv 2512.05964), at no price, exactly;
        "given" does so with any whole actions, of a policy that was trained with these.
    max_weight: the largest guidance weight, the paper's beta. None: as much as moves the sample by
        the whole difference in one step, which of n equal steps is n; more it never is, so that
        few steps do not move it beyond what is known.
    data_std: the standard deviation of chunks given what was observed, in normalised units; the
        smaller, the more a known part counts at high noise.

    The defaults are the paper's. docs/results.md has what each method was measured to do.
    """

    method: str = "jacobian"
    max_weight: float | None = 5.0
    data_std: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, GIVEN):
            raise ConfigError(
                f"unknown method of guidance {self.method!r}{nearest(self.method, METHODS) or ';'} "
                f"known: {', '.join(METHODS)}"
            )
        for name in ("max_weight", "data_std"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name == "max_weight" and value is None:
                continue
            if not number or not 0 < value < math.inf:
                raise ConfigError(f"guidance {name} is {value!r}; it must be a positive number")

    def weight(
        self,
        signal: float,
        noise: float,
        next_signal: float,
        next_noise: float,
        begin: tuple[float, float] | None = None,
    ) -> float:
        """The guidance weight of one step, from signal and noise before and after it (eq. 2 to 4).

        begin: signal and noise before it, where the first two are those of an evaluation elsewhere
            (`SolverStep.begin`).

        In the paper's time, tau = signal / (signal + noise), and with a data variance of s^2
        instead of 1:

            min(max_weight, 1 / step, (1 - tau) / (tau r^2)),
            r^2 = s^2 (1 - tau)^2 / (s^2 tau^2 + (1 - tau)^2)
        """
        tau, rest = signal / (signal + noise), noise / (signal + noise)
        first_signal, first_noise = begin or (signal, noise)
        step = next_signal / (next_signal + next_noise) - first_signal / (
            first_signal + first_noise
        )
        whole = 1 / step if step > 0 else math.inf
        largest = whole if self.max_weight is None else min(whole, self.max_weight)
        if tau == 0:
            return largest
        return min(largest, tau / rest + rest / (tau * self.data_std**2))


def prefix_weights(
    delay: int, known: int, horizon: int, decay: str = "exponential"
) -> NDArray[np.float64]:
    """How much each of `horizon` coming actions is held to the `known` first ones, [horizon].

    1 for the `delay` actions that will have run before the new chunk arrives, then, over the rest
    of what is known, c (e^c - 1) / (e - 1) with c falling evenly from 1 towards 0 (eq. 5), then 0.
    decay: "exponential" is that; "linear" is c itself, "none" is 1, "hard" is 0.

    >>> prefix_weights(2, 4, 6, "linear").round(2).tolist()
    [1.0, 1.0, 0.67, 0.33, 0.0, 0.0]
    """
    if decay not in DECAYS:
        raise ConfigError(
            f"unknown decay {decay!r}{nearest(decay, DECAYS) or ';'} known: {', '.join(DECAYS)}"
        )
    delay, known = min(delay, known, horizon), min(known, horizon)
    weights = np.zeros(horizon)
    weights[:delay] = 1.0
    c = (known - np.arange(delay, known)) / (known - delay + 1)
    shapes = {
        "exponential": c * np.expm1(c) / (math.e - 1),
        "linear": c,
        "none": np.ones_like(c),
        "hard": np.zeros_like(c),
    }
    weights[delay:known] = shapes[decay]
    return weights

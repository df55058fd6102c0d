"""How much the aspects of quality are measured on."""

from dataclasses import dataclass

from dipole.data.core.errors import ConfigError
from dipole.envs.quality.manifold import NEIGHBOURS

FEWEST_OBSERVATIONS = NEIGHBOURS + 1


@dataclass(frozen=True)
class AspectSettings:
    """observations: Held-out observations, at most. samples: Chunks drawn for each. likelihood:
    Steps of the probability-flow ODE; 0: no log-likelihood."""

    observations: int = 100
    samples: int = 16
    likelihood: int = 40

    def __post_init__(self) -> None:
        limits = {"observations": FEWEST_OBSERVATIONS, "samples": 2, "likelihood": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ConfigError(
                    f"aspects_{name} is {getattr(self, name)}; it must be at least {least}"
                )

"""How an episode is done: what differs between one demonstration and the next."""

from dataclasses import dataclass

import numpy as np

from dipole.envs.aloha.joints import Floats

ENTROPY = 14  # tells this expert's random numbers from others' of the same seed


@dataclass(frozen=True)
class Style:
    """Drawn from the episode's seed.

    speed: Of movements through the air, m/s on average.
    approach: Height above an object from which a hand descends, metres.
    pitch: By how much a hand points down when it grasps, radians.
    offset: Where along an object it is grasped, metres from its middle; of two objects.
    meeting: Where both hands meet, [3], metres.
    pause: Before and after a grasp, seconds.
    """

    speed: float
    approach: float
    pitch: float
    offset: tuple[float, float]
    meeting: Floats
    pause: float

    @classmethod
    def draw(cls, seed: int) -> "Style":
        random = np.random.default_rng([seed, ENTROPY])
        offset = random.uniform(-0.004, 0.004, 2)
        return cls(
            speed=random.uniform(0.25, 0.35),
            approach=random.uniform(0.08, 0.12),
            pitch=np.deg2rad(random.uniform(55.0, 65.0)),
            offset=(float(offset[0]), float(offset[1])),
            meeting=random.uniform([-0.02, 0.48, 0.2], [0.02, 0.52, 0.26]),
            pause=random.uniform(0.06, 0.16),
        )

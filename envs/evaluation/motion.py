"""How rough a policy's motion is: the actions of an episode, as they were executed."""

from collections.abc import Iterable, Sequence

import numpy as np


class Motion:
    """The executed actions of one episode, chunk by chunk."""

    def __init__(self) -> None:
        self._executed: list[np.ndarray] = []
        self._jumps: list[float] = []

    def add(self, actions: np.ndarray, planned: np.ndarray | None = None) -> None:
        """actions: [n, A], those of a chunk that were executed, n at least 1. planned: [A], what
        the chunk before had planned in place of the first; None where it had planned nothing."""
        self._executed.append(actions)
        if planned is not None:
            self._jumps.append(float(np.linalg.norm(actions[0] - planned)))

    def jerks(self) -> np.ndarray:
        """|third difference| of successive actions, a step being 1, [steps - 3]."""
        return third_differences(np.concatenate(self._executed)) if self._executed else np.empty(0)

    def jumps(self) -> np.ndarray:
        """|first action of a chunk - what the one before had planned for that time|, [seams]."""
        return np.array(self._jumps)


def third_differences(actions: np.ndarray) -> np.ndarray:
    """Norms of the third differences of actions [..., n, A]: [..., n - 3], none for n < 4."""
    norms: np.ndarray = np.linalg.norm(np.diff(actions.astype(float), n=3, axis=-2), axis=-1)
    return norms


def roughness(motions: Iterable[Motion], hz: float | None) -> dict[str, float | None]:
    """Means over all episodes, in the action's units; None where there was nothing to measure.

    hz: Steps a second. jerk is per second cubed, or per step cubed where hz is None; seam_jump is
    between the plan that ended and the one that went on.
    """
    motions = list(motions)
    return {
        "seam_jump": _mean([motion.jumps() for motion in motions]),
        "jerk": _mean([motion.jerks() * (hz or 1.0) ** 3 for motion in motions]),
    }


def _mean(arrays: Sequence[np.ndarray]) -> float | None:
    numbers = np.concatenate([np.empty(0), *arrays])
    return float(numbers.mean()) if len(numbers) else None

"""Whether a policy does a task in all the ways that there are."""

import math
from collections import Counter
from collections.abc import Iterable


def mode_entropy(modes: Iterable[str], known: int = 0) -> float | None:
    """Entropy of the modes that episodes ended in, as a share of the largest there can be.

    modes: Of each successful episode. known: How many the task has; at least those that were seen.
    1: all equally often; 0: always the same (Jia et al., 2024). None for no episodes, or one mode.
    """
    counts = Counter(modes)
    total = sum(counts.values())
    possible = max(known, len(counts))
    if not total or possible < 2:
        return None
    shares = [count / total for count in counts.values()]
    return max(0.0, -sum(share * math.log(share) for share in shares)) / math.log(possible)

"""Precision and recall of sampled chunks: are they like demonstrated ones, and are all kinds there?

The chunks of each set are taken for a manifold: the union of balls round its members, each as wide
as the distance to its k-th nearest neighbour (Kynkaanniemi et al., 2019).
"""

import numpy as np

from dipole.envs.quality.distances import chunk_distances

NEIGHBOURS = 3  # as in the paper


def precision_recall(
    sampled: np.ndarray, demonstrated: np.ndarray, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Share of sampled chunks on the demonstrations' manifold, and of demonstrated on the samples'.

    sampled: [N, D]; demonstrated: [M, D]; both of more than `neighbours` rows. Two sets of one
    distribution do not give 1: how far below depends on their sizes and D, so that sets of the same
    size are compared. Raises ValueError for sets that are too small.
    """
    if min(len(sampled), len(demonstrated)) <= neighbours:
        raise ValueError(
            f"{len(sampled)} and {len(demonstrated)} chunks have no {neighbours} neighbours each"
        )
    between = chunk_distances(sampled, demonstrated)  # [N, M]
    on_demonstrated = between <= _radii(demonstrated, neighbours)
    on_sampled = between <= _radii(sampled, neighbours)[:, None]
    return float(on_demonstrated.any(axis=1).mean()), float(on_sampled.any(axis=0).mean())


def _radii(chunks: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of each chunk to its k-th nearest neighbour, [N]."""
    distances = chunk_distances(chunks, chunks)
    np.fill_diagonal(distances, -1)  # itself comes first
    radii: np.ndarray = np.partition(distances, neighbours, axis=1)[:, neighbours]
    return radii

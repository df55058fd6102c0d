"""Where the rows of three small LeRobot episodes lie, and what a source reads of them."""

import numpy as np

LENGTHS = [7, 5, 9]
FIRST = "data/chunk-000/episode_000000.parquet"
SECOND = "data/chunk-000/episode_000001.parquet"
WHOLE = "data/chunk-000/file-000.parquet"


def opened(source, number):
    return source.open(source.episodes()[number])


def frames_of_all(source, key):
    return np.concatenate([e.read(key, 0, e.n_frames) for e in map(source.open, source.episodes())])

"""Recordings to validate, and what `validate` warns of in them."""

import numpy as np
from scipy.spatial.transform import Rotation

from dipole.data import EpisodeWriter
from dipole.data.inspection.validate import validate


def warnings_of(path, *episodes, features=None, fps=10.0):
    with EpisodeWriter(path, fps=fps, features=features) as writer:
        for episode in episodes:
            writer.add_episode(episode)
    found = validate(path)
    assert found.ok
    return [f"{f.where}: {f.message}" for f in found.warnings]


def moving(n=60, columns=2, seed=0):
    """A smooth motion that is no angle and stands still nowhere."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 6, columns)
    return np.sin(np.arange(n)[:, None] * 0.37 + phases) * 100 + np.arange(n)[:, None] * 0.1


def turning(n=60):
    """Quaternions x, y, z, w of a hand that turns."""
    t = np.linspace(0, 2.5, n)
    axis = np.stack([np.sin(3 * t), np.cos(2 * t), 1 + 0 * t], -1)
    turned = Rotation.from_rotvec(axis / np.linalg.norm(axis, axis=1)[:, None] * t[:, None])
    return turned.as_quat()


NAMES = ["qx", "qy", "qz", "qw"]
QUATERNION = {"pose": {"names": NAMES}}

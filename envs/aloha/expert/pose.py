"""Rigid poses: a position and a rotation matrix, and the way from one to another."""

from dataclasses import dataclass

import numpy as np

from dipole.envs.aloha.joints import Floats


@dataclass(frozen=True)
class Pose:
    """A frame in another one. position: [3], metres. rotation: [3, 3], its columns are the axes."""

    position: Floats
    rotation: Floats

    @classmethod
    def identity(cls) -> "Pose":
        return cls(np.zeros(3), np.eye(3))

    @classmethod
    def read(cls, numbers: Floats) -> "Pose":
        """Of position and unit quaternion w, x, y, z, [7]."""
        w, x, y, z = numbers[3:7] / np.linalg.norm(numbers[3:7])
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        return cls(np.array(numbers[:3], dtype=np.float64), rotation)

    def __matmul__(self, other: "Pose") -> "Pose":
        """`other`, given in this frame, in the frame that this one is given in."""
        return Pose(self.position + self.rotation @ other.position, self.rotation @ other.rotation)

    @property
    def inverse(self) -> "Pose":
        return Pose(-self.rotation.T @ self.position, self.rotation.T)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> "Pose":
        """Shifted along the outer frame's axes, metres."""
        return Pose(self.position + np.array([x, y, z]), self.rotation)

    def towards(self, other: "Pose", share: float) -> "Pose":
        """Between this pose (share 0) and another (1), turning about one axis."""
        turn = rotation_vector(other.rotation @ self.rotation.T)
        return Pose(
            self.position + share * (other.position - self.position),
            rotation_of(share * turn) @ self.rotation,
        )


def rotation_of(vector: Floats) -> Floats:
    """Rotation [3, 3] about a vector [3] by its length, radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: Floats = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def rotation_vector(rotation: Floats) -> Floats:
    """The inverse of `rotation_of`, of angles below pi."""
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = float(np.linalg.norm(skew)) / 2
    angle = np.arctan2(sine, (np.trace(rotation) - 1) / 2)
    vector: Floats = skew / 2 * (angle / sine if sine > 1e-9 else 1.0)
    return vector

"""Where the files of a dataset may lie: in its folder, or in the hub's cache beside it.

In the hub's cache every file of a snapshot is a link into the blobs of its repository:

    datasets--USER--NAME/blobs/<hash>
    datasets--USER--NAME/snapshots/<revision>/meta/info.json -> ../../../blobs/<hash>
"""

from pathlib import Path

from dipole.data.core.errors import DataError


class DatasetRoot:
    """The folder of a dataset. path: as it was given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        real = path.resolve()
        self._allowed = [real]
        for snapshots in real.parents:
            repository = snapshots.parent
            if snapshots.name == "snapshots" and repository.name.startswith("datasets--"):
                self._allowed.append((repository / "blobs").resolve())

    def check(self, name: str) -> Path:
        """Where the file or folder `name` really is; raises DataError where that is outside."""
        real = (self.path / name).resolve()
        if not any(real.is_relative_to(folder) for folder in self._allowed):
            raise DataError(
                f"{self.path}: {name!r} lies outside the dataset, in {real}. It is not opened; "
                "put the file itself there if you trust it"
            )
        return real

"""Where the jobs of a sweep write.

The folder of job n is OUTPUT/n, and holds its log. Commands whose output may not exist beforehand
(a dataset, an export, a report) write it into that folder, under the name that OUTPUT has.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError

ON_DISK = ("output", "keep_episodes")  # settings that name what is written
WHOLE = ("bench", "export", "record")  # each writes one new folder or file
SUFFIXES = (".zip", ".zarr", ".json")


def refuse_urls(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for an output in object storage, which would be a folder named s3:."""
    for name in ON_DISK:
        place = config.get(name)
        if isinstance(place, str) and "://" in place:
            raise ConfigError(
                f"{name}={place} names no folder: what a command makes is written to the disk. A "
                f"dataset is copied from there by `dipole data convert DATASET s3://BUCKET/NAME`, "
                "and a training copies its run with train.copy_to=s3://BUCKET/NAME"
            )


def sweep_folder(command: str, output: str) -> Path:
    """The folder of a sweep with this setting `output`.

    >>> sweep_folder("record", "demos/push.zarr.zip").as_posix()
    'demos/push'
    """
    folder = Path(output).expanduser()
    while command in WHOLE and folder.suffix in SUFFIXES:
        folder = folder.with_suffix("")
    return folder


def job_paths(command: str, output: str, number: int) -> tuple[Path, Path]:
    """The folder of one job, and what it writes: the folder itself, or something in it.

    >>> [path.as_posix() for path in job_paths("record", "demos/push.zip", 3)]
    ['demos/push/3', 'demos/push/3/push.zip']
    """
    folder = sweep_folder(command, output) / str(number)
    return folder, folder / Path(output).name if command in WHOLE else folder

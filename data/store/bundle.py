"""The demonstrations that ship with the package."""

from pathlib import Path

from dipole.data.core.errors import DataError
from dipole.data.core.registry import nearest
from dipole.data.store.objects.url import DatasetPath, ObjectUrl, is_url

PREFIX = "bundled:"
_FOLDER = Path(__file__).parent.parent / "demos"
_ENDING = "_expert.zarr.zip"


def bundled(name: str) -> Path:
    """Path of the demonstrations called `name`, e.g. "pusht".

    Raises DataError for a name that does not ship, with the nearest one that does.
    """
    path = _FOLDER / f"{name}{_ENDING}"
    if name in bundled_names():
        return path
    names = bundled_names()
    raise DataError(
        f"no bundled dataset {name!r}{nearest(name, names) or '.'} "
        f"Bundled: {', '.join(names) or 'none'}; for your own give its path"
    )


def bundled_names() -> list[str]:
    """Names that `bundled` knows, sorted."""
    return sorted(file.name.removesuffix(_ENDING) for file in _FOLDER.glob(f"*{_ENDING}"))


def dataset_path(path: str | DatasetPath) -> DatasetPath:
    """The path itself, that of a bundled dataset for "bundled:NAME", or a place in object storage
    for "s3://BUCKET/NAME.zarr" and the like."""
    text = str(path)
    if is_url(text):
        return ObjectUrl.parse(text)
    if text.startswith(PREFIX):
        return bundled(text.removeprefix(PREFIX))
    return Path(text).expanduser()

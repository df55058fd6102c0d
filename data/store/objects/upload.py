"""A finished store, written to object storage: whole, or not at all for whoever reads.

    s3://bucket/robot.zarr/unfinished    first: who writes here; goes last of all
    .../data/..., .../meta/...           everything else, side by side
    .../files.json                       names and sizes, for web servers that list nothing
    .../zarr.json                        last: without it there is no dataset

An upload that was cut short goes on when it is begun again: what has arrived stays.
"""

import json
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from dipole.data.core.errors import DataError, StorageError
from dipole.data.store.objects.client import ObjectClient, ObjectInfo
from dipole.data.store.objects.transfer import is_same
from dipole.data.store.objects.tree import LISTING
from dipole.data.store.objects.url import WRITABLE, ObjectUrl

ROOT, MARK = "zarr.json", "unfinished"
UPLOADS = 8  # at once
_OURS = {"data", "meta", "videos", MARK, LISTING}

Progress = Callable[[int, int, str], object]


def refuse_unwritable(url: ObjectUrl) -> None:
    """Raise DataError where no dataset can be written: on web servers, and where one is already."""
    if url.scheme not in WRITABLE:
        raise DataError(f"{url}: a web server cannot be written to: give s3://, gs:// or az://")
    client = ObjectClient(url)
    if url.suffix == ".zip":
        if client.head(url.key) is not None:
            raise _exists(url)
        return
    _refuse_foreign(url, client.objects(url.key))


def upload_store(written: Path, url: ObjectUrl, progress: Progress) -> None:
    """Write a finished store, a folder or a zip, to `url`.

    progress: Called with bytes sent, bytes in all, and a word. Raises DataError where something
    is there already, StorageError where the service refuses or cannot be reached.
    """
    client = ObjectClient(url)
    if written.is_file():
        progress(0, 1, "uploading")
        _put_new(client, url, url.key, written)
        return
    claimed = _claim(client, url)
    there = client.objects(url.key)
    _refuse_foreign(url, there)
    files = _files(written)
    client.delete([_key(url, name) for name in there if name not in {*files, MARK}])
    _upload(client, url, files, there, progress)
    _check_arrived(url, files, client.objects(url.key))
    sizes = {name: file.stat().st_size for name, file in files.items()}
    sizes[ROOT] = (written / ROOT).stat().st_size
    client.put(_key(url, LISTING), json.dumps({"files": sizes}).encode())
    _put_new(client, url, _key(url, ROOT), written / ROOT)
    client.delete([claimed])


def _files(written: Path) -> dict[str, Path]:
    """All but the last one, by their names."""
    found = (path for path in sorted(written.rglob("*")) if path.is_file())
    names = {path.relative_to(written).as_posix(): path for path in found}
    return {name: path for name, path in names.items() if name != ROOT}


def _claim(client: ObjectClient, url: ObjectUrl) -> str:
    """Say that this machine writes here; raises DataError where another one does."""
    key, own = _key(url, MARK), json.dumps({"written by": socket.gethostname()}).encode()
    try:
        client.put(key, own, new=True)
    except StorageError as error:
        info = client.head(key)
        if info is None:
            raise
        said = client.get(key, 0, info.size)
        if said != own:
            raise DataError(
                f"{url}: something unfinished lies there ({said.decode(errors='replace')}). Let it "
                "finish, or remove what is there"
            ) from error
    return key


def _upload(
    client: ObjectClient,
    url: ObjectUrl,
    files: Mapping[str, Path],
    there: Mapping[str, ObjectInfo],
    progress: Progress,
) -> None:
    total, sent = sum(file.stat().st_size for file in files.values()), 0

    def send(name: str) -> int:
        file = files[name]
        if name not in there or not is_same(there[name], file):
            client.put(_key(url, name), file)
        return file.stat().st_size

    threads = ThreadPoolExecutor(UPLOADS)
    try:
        for done in as_completed([threads.submit(send, name) for name in files]):
            sent += done.result()
            progress(sent, max(total, 1), "uploading")
    finally:
        threads.shutdown(cancel_futures=True)


def _check_arrived(
    url: ObjectUrl, files: Mapping[str, Path], there: Mapping[str, ObjectInfo]
) -> None:
    for name, file in files.items():
        if name not in there or there[name].size != file.stat().st_size:
            raise StorageError(
                f"{url}: {name} did not arrive whole, or another process writes there. Begin again"
            )


def _refuse_foreign(url: ObjectUrl, there: Mapping[str, ObjectInfo]) -> None:
    if ROOT in there or ".zgroup" in there:
        raise _exists(url)
    others = sorted({name.split("/")[0] for name in there} - _OURS)
    if others:
        raise DataError(f"{url}: holds {others[0]!r}, which is no dataset's. Choose another name")


def _put_new(client: ObjectClient, url: ObjectUrl, key: str, file: Path) -> None:
    try:
        client.put(key, file, new=True)
    except StorageError as error:
        info = client.head(key)
        if info is not None and is_same(info, file):
            return  # an attempt whose answer was lost
        if info is not None:
            raise _exists(url) from error
        raise


def _exists(url: ObjectUrl) -> DataError:
    return DataError(
        f"{url}: exists already, and datasets are never overwritten. Choose another name or "
        "remove it"
    )


def _key(url: ObjectUrl, name: str) -> str:
    return f"{url.key}/{name}"

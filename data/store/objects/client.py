"""Requests to one bucket, through obstore.

Endpoint and credentials come from the environment, by the names that each service's own tools have
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from dipole.data.core.errors import DataError
from dipole.data.store.objects.failures import failure
from dipole.data.store.objects.retrying import Retrying
from dipole.data.store.objects.url import ObjectUrl

CONNECT_SECONDS, REQUEST_SECONDS = 10, 120
FIRST_ATTEMPTS = 6
LARGE = 64 * 2**20  # bytes, from which an object is sent in parts


@dataclass(frozen=True)
class ObjectInfo:
    """An object as it is now.

    size: Bytes.
    tag: Of its content, as the service gives it; "" where it gives none.
    version: A text that changes with its content.
    """

    size: int
    tag: str
    version: str

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "ObjectInfo":
        """said: as obstore describes it."""
        tag = str(said.get("e_tag") or "")
        return cls(int(said["size"]), tag, tag or str(said.get("last_modified")))


class ObjectClient:
    """Requests to the bucket of `url`, each made again as `retrying` says.

    Raises DataError where obstore is not installed, and from every request that fails for good.
    """

    def __init__(self, url: ObjectUrl, retrying: Retrying | None = None) -> None:
        self.url = url
        self._retrying = retrying or Retrying()
        self._store = _connect(url)

    def objects(self, prefix: str) -> dict[str, ObjectInfo]:
        """The objects whose names begin with `prefix`/, by the rest of their names."""
        skipped = len(prefix) + 1
        listed = self._first("listing it", lambda: self._listed(prefix))
        return {str(one["path"])[skipped:]: ObjectInfo.of(one) for one in listed}

    def head(self, key: str) -> ObjectInfo | None:
        """Size and tag of an object, or None where there is none."""
        import obstore

        def request() -> Any:
            try:
                return obstore.head(self._store, key)
            except FileNotFoundError:
                return None

        found = self._first(f"looking for {key}", request)
        return None if found is None else ObjectInfo.of(found)

    def get(self, key: str, offset: int, length: int, tag: str = "") -> bytes:
        """Bytes of an object; with its `tag`, of that very content or none."""
        import obstore

        options: Any = {"range": (offset, offset + length), **({"if_match": tag} if tag else {})}

        def request() -> bytes:
            content = bytes(obstore.get(self._store, key, options=options).bytes())
            if len(content) != length:
                raise OSError(f"{len(content):,} bytes came of {length:,}")
            return content

        content: bytes = self._run(f"reading {key} from byte {offset:,}", request)
        return content

    def put(self, key: str, content: bytes | Path | BinaryIO, new: bool = False) -> None:
        """Write an object whole. content: All of an open file, too. new: only where there is none
        yet."""
        import obstore

        size = size_of(content)
        mode: Any = "create" if new else "overwrite"

        def request() -> None:
            if not isinstance(content, bytes | Path):
                content.seek(0)
            obstore.put(self._store, key, content, mode=mode, use_multipart=size > LARGE)

        self._run(f"writing {key}", request)

    def delete(self, keys: list[str]) -> None:
        """Remove objects."""
        import obstore

        if keys:
            self._run(f"removing {keys[0]}", lambda: obstore.delete(self._store, keys))

    def _listed(self, prefix: str) -> list[Mapping[str, Any]]:
        import obstore

        return [one for page in obstore.list(self._store, f"{prefix}/") for one in page]

    def _first(self, what: str, request: Any) -> Any:
        """A request that opens something: whoever waits for it should soon hear what is wrong."""
        return replace(self._retrying, attempts=FIRST_ATTEMPTS).run(self.url, what, request)

    def _run(self, what: str, request: Any) -> Any:
        return self._retrying.run(self.url, what, request)


def size_of(content: bytes | Path | BinaryIO) -> int:
    """Bytes of what is to be written."""
    if isinstance(content, bytes):
        return len(content)
    return (os.stat(content) if isinstance(content, Path) else os.fstat(content.fileno())).st_size


def _connect(url: ObjectUrl) -> Any:
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise DataError(
            f"{url}: object storage needs obstore: pip install 'dipole[object-storage]'"
        ) from error
    options: Any = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    if _is_plain_http(url):
        options["allow_http"] = True
    retry: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)}
    more: dict[str, Any] = {}
    if url.scheme == "s3" and not any(os.environ.get(name) for name in _REGIONS):
        more["region"] = "us-east-1"  # what S3 itself and its imitations take for "any"
    try:
        return from_url(url.root, client_options=options, retry_config=retry, **more)
    except Exception as error:  # whatever obstore finds wrong with the environment's settings
        raise failure(url, "connecting", error) from error


_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def _is_plain_http(url: ObjectUrl) -> bool:
    """Whether the user named an endpoint without encryption."""
    endpoints = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_ENDPOINT")
    named = any(os.environ.get(name, "").startswith("http://") for name in endpoints)
    return url.scheme == "http" or named

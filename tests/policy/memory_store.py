"""Object storage in memory, with what goes wrong in it, for tests without a server."""

import functools
from contextlib import contextmanager

import pytest

from dipole.data.core.errors import StorageError
from dipole.data.store.objects.client import ObjectClient
from dipole.data.store.objects.retrying import Retrying
from dipole.data.store.objects.url import ObjectUrl


@contextmanager
def memory_store(tmp_path):
    """Meanwhile every place in object storage is in one store in memory."""
    from obstore.store import MemoryStore

    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIPOLE_CACHE_DIR", str(tmp_path / "cache"))
        patch.setattr("dipole.data.store.objects.client._connect", lambda url: store)
        patch.setattr("dipole.policy.core.files.flush", lambda path: None)  # it takes its time
        patch.setattr(
            "dipole.data.store.objects.client.Retrying",
            functools.partial(Retrying, first=0.001, longest=0.002),
        )
        yield store


def names(url):
    """All objects at a place."""
    place = ObjectUrl.parse(str(url))
    return sorted(ObjectClient(place).objects(place.key))


@contextmanager
def puts(before):
    """Meanwhile `before(key)` is called before each object is written; what it raises, that
    raises."""
    own = ObjectClient.put

    def put(self, key, content, new=False):
        before(key)
        own(self, key, content, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectClient, "put", put)
        yield


def broken(*endings):
    """For `puts`: objects whose names end so cannot be written."""

    def before(key):
        if key.endswith(endings):
            raise StorageError(f"{key}: the cable was pulled out")

    return before

"""Policy servers and their clients, closed when they have served."""

import sys
from pathlib import Path

import pytest

from dipole.deploy.inference.remote import RemoteInference

sys.path.insert(0, str(Path(__file__).parent / "support"))
from real_server import running


@pytest.fixture(scope="module")
def server():
    """One that all tests of a file share."""
    with running() as server:
        yield server


@pytest.fixture
def client():
    made = []

    def make(address, *more, **options):
        made.append(RemoteInference(address, *more, **options))
        return made[-1]

    yield make
    for inference in made:
        inference.close()

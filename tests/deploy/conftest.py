"""Clients of policy servers, closed after each test."""

import pytest

from dipole.deploy.inference.remote import RemoteInference


@pytest.fixture
def client():
    made = []

    def make(address, *more, **options):
        made.append(RemoteInference(address, *more, **options))
        return made[-1]

    yield make
    for inference in made:
        inference.close()

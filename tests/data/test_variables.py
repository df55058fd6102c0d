"""Environment variables for a while."""

import os
import subprocess
import sys

import pytest

from dipole.data.core.environ import environment_variables

PRINT = [sys.executable, "-c", "import os; print(os.environ.get('MINE'), os.environ.get('GONE'))"]


@pytest.mark.parametrize("before", [None, "of old"])
def test_they_reach_new_processes_and_are_as_before_afterwards(monkeypatch, before):
    monkeypatch.setenv("GONE", "there")
    monkeypatch.delenv("MINE", raising=False)
    if before is not None:
        monkeypatch.setenv("MINE", before)
    with pytest.raises(KeyError):
        _fail_meanwhile()
    assert (os.environ.get("MINE"), os.environ["GONE"]) == (before, "there")


def _fail_meanwhile():
    with environment_variables({"MINE": "new", "GONE": None}):
        assert subprocess.check_output(PRINT, text=True) == "new None\n"
        raise KeyError

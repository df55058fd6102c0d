"""Where a checkpoint is evaluated: what its file names is neither imported nor started."""

import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy.evaluation import checkpoint
from dipole.envs import EnvSpec


@pytest.fixture
def trained_for(monkeypatch, tmp_path):
    """What is evaluated of a checkpoint that was trained for an environment: (own, given) -> it."""
    monkeypatch.setattr(checkpoint, "is_export", lambda path: False)
    monkeypatch.setattr(checkpoint, "find_checkpoint", lambda path: path)

    def found(own, given=None):
        monkeypatch.setattr(checkpoint, "read_config", lambda path: {"environment": own})
        return checkpoint._environment(tmp_path, given)

    return found


OWN = {"name": "robosuite/lift", "python": "/a/python", "timeout": 90, "max_steps": 7}


@pytest.mark.parametrize("given", [None, "robosuite/lift", {"max_steps": 3}, {"timeout": 3}])
def test_an_interpreter_that_a_checkpoint_names_is_not_started(trained_for, given):
    with pytest.raises(ConfigError, match=r"interpreter of its own, /a/python: if you trust it"):
        trained_for(OWN, given)


def test_one_that_is_given_is_used_with_what_else_the_checkpoint_says(trained_for):
    wanted = EnvSpec("robosuite/lift", python="/b/python", timeout=90, max_steps=7)
    assert trained_for(OWN, {"python": "/b/python"}) == wanted
    assert trained_for(OWN, {"name": "robosuite/lift", "python": "/b/python"}) == wanted
    assert trained_for(OWN, {"name": "robosuite/can"}) == EnvSpec("robosuite/can")
    assert trained_for({"name": "pusht"}, {"max_steps": 3}) == EnvSpec("pusht", max_steps=3)


@pytest.mark.parametrize("named", [{}, {"name": "maze/umaze"}])
@pytest.mark.parametrize("table", ["options", "observation", "reset"])
def test_one_entry_of_a_table_leaves_the_checkpoint_s_others(trained_for, table, named):
    own = {"name": "maze/umaze", table: {"a": "x", "b": "y"}}
    found = trained_for(own, {**named, table: {"b": "z", "c": "w"}})
    assert getattr(found, table) == {"a": "x", "b": "z", "c": "w"}


@pytest.mark.parametrize("table", ["options", "observation", "reset"])
def test_null_empties_a_table_of_the_checkpoint_s(trained_for, table):
    own = {"name": "maze/umaze", table: {"a": "x"}}
    assert getattr(trained_for(own, {table: None}), table) == {}
    assert getattr(trained_for(own, {table: {}}), table) == {"a": "x"}


def test_null_as_an_option_is_that_option_s_value(trained_for):
    own = {"name": "maze/umaze", "options": {"max_steps": 9, "control": "state"}}
    found = trained_for(own, {"options": {"max_steps": None}})
    assert found.options == {"max_steps": None, "control": "state"}


def test_none_that_is_given_is_this_one(trained_for):
    own = {"name": "gym:Pendulum-v1", "python": "/a/python", "timeout": 90}
    assert trained_for(own, {"python": None}) == EnvSpec("gym:Pendulum-v1")


@pytest.mark.parametrize("given", [None, {"max_steps": 3}, {"python": "/b/python"}])
def test_a_module_that_a_checkpoint_names_is_not_imported(trained_for, given):
    with pytest.raises(ConfigError, match="imports the module 'mine': if you trust it"):
        trained_for({"name": "gym:mine:X-v0"}, given)
    named = {**(given or {}), "name": "gym:mine:X-v0"}
    assert trained_for({"name": "gym:mine:X-v0"}, named).module == "mine"


def test_without_a_simulator_one_is_needed(trained_for):
    for given in (None, {}):
        with pytest.raises(ConfigError, match=r"a task without a simulator|no name"):
            trained_for(None, given)

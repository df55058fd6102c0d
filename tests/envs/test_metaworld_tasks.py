"""MetaWorld's names, texts and files, without its simulator."""

from pathlib import Path

import pytest
import yaml

from dipole.data.core.errors import ConfigError
from dipole.envs.contract import EnvSpec
from dipole.envs.metaworld.tasks import SETS, TASKS
from dipole.envs.registry import check_environment

FILES = Path(__file__).parents[2] / "configs/task/metaworld"


def test_every_task_has_a_file_that_names_it():
    expected = {f"metaworld/{name}" for name in (*TASKS, *SETS)}
    files = [path for path in FILES.glob("[!_]*.yaml") if path.stem != "image"]
    named = {yaml.safe_load(path.read_text())["environment"]["name"] for path in files}
    assert named == expected == {f"metaworld/{path.stem}" for path in files}


def test_fifty_tasks_have_fifty_different_instructions():
    assert len(TASKS) == len(set(TASKS.values())) == 50


def test_a_mistyped_task_is_answered_with_the_nearest_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="did you mean 'pick-place'"):
        check_environment(EnvSpec("metaworld/pickplace"))

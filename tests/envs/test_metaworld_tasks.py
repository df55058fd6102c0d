"""MetaWorld's names, texts and files, without its simulator."""

from pathlib import Path

import pytest
import yaml

from dipole.data.core.errors import ConfigError
from dipole.envs.contract import EnvSpec
from dipole.envs.metaworld.tasks import SETS, TASKS, chosen_tasks
from dipole.envs.registry import check_environment

FILES = Path(__file__).parents[2] / "configs/task/metaworld"


def test_every_task_has_a_file_that_names_it():
    expected = {f"metaworld/{name}" for name in (*TASKS, *SETS)}
    others = {"image", "image_depth", "mt10_words", "mt50_words"}
    files = [path for path in FILES.glob("[!_]*.yaml") if path.stem not in others]
    named = {yaml.safe_load(path.read_text())["environment"]["name"] for path in files}
    assert named == expected == {f"metaworld/{path.stem}" for path in files}


def test_fifty_tasks_have_fifty_different_instructions():
    assert len(TASKS) == len(set(TASKS.values())) == 50


def test_a_mistyped_task_is_answered_with_the_nearest_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="did you mean 'pick-place'"):
        check_environment(EnvSpec("metaworld/pickplace"))


@pytest.mark.parametrize("name", ["mt10", "mt50"])
def test_the_instruction_of_a_set_has_as_many_bytes_as_its_longest(name):
    task = yaml.safe_load((FILES / f"{name}_words.yaml").read_text())
    assert task["environment"]["name"] == f"metaworld/{name}"
    longest = max(len(TASKS[each].encode()) for each in SETS[name])
    assert task["observation"]["instruction"] == {"shape": [longest], "kind": "text"}


def test_some_tasks_of_a_set_have_their_turns_in_the_order_in_which_they_are_named():
    assert chosen_tasks("mt10", ["window-open", "push"]) == ("window-open", "push")
    assert chosen_tasks("mt10") == SETS["mt10"]
    assert chosen_tasks("push") == ("push",)


@pytest.mark.parametrize(
    ("task", "only", "said"),
    [
        ("mt10", ["pusj"], "metaworld/mt10 has no task 'pusj', did you mean 'push'"),
        ("mt10", ["hammer"], "metaworld/mt10 has no task 'hammer'"),
        ("mt10", ["push", "reach", "push"], "names 'push' 2 times: name each task once"),
        ("mt10", [], "leaves no task of metaworld/mt10: name one"),
        ("push", ["push"], "metaworld/push is a task alone: name metaworld/mt10 or metaworld/mt50"),
    ],
)
def test_tasks_that_are_none_of_the_set_are_refused(task, only, said):
    with pytest.raises(ConfigError, match=said):
        chosen_tasks(task, only)

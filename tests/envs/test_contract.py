"""A task's environment: what it may say, and what is answered where it cannot be."""

import functools
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data.core.errors import ConfigError
from dipole.envs import gymnasium_ids
from dipole.envs.contract import SCORES, EnvSpec
from dipole.envs.registry import (
    ENVIRONMENTS,
    Environment,
    environment_version,
    make_env,
    score_name,
    stored_names,
)


def test_a_name_alone_and_the_form_of_before_are_read():
    assert EnvSpec.read("pusht") == EnvSpec("pusht")
    assert EnvSpec.read({"name": "pusht", "options": {}}) == EnvSpec("pusht")
    assert EnvSpec.read({"name": "pusht", "options": None}) == EnvSpec("pusht")
    assert EnvSpec.read({"id": "gym:Pusher-v5", "max_steps": 50}).max_steps == 50


words = st.text(st.characters(categories=["L", "N"]), min_size=1)
specs = st.builds(
    EnvSpec,
    id=words,
    options=st.dictionaries(words, st.integers() | words),
    observation=st.dictionaries(words, words),
    success=st.none() | words,
    max_steps=st.none() | st.integers(1, 10_000),
    score=st.none() | st.sampled_from(SCORES),
    instruction=st.none() | words,
    reset=st.dictionaries(words, st.floats(allow_nan=False, allow_infinity=False)),
    fps=st.none() | st.floats(0.1, 1000),
)


@given(specs)
def test_what_is_written_is_read_again(spec):
    assert EnvSpec.read(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "pusht", "option": {}}, "no environment.option, did you mean 'options'"),
        ({"options": {}}, "environment has no name"),
        ({"name": "a", "id": "b"}, "give one"),
        ({"name": "pusht", "max_steps": 0}, "max_steps is 0: it must be at least 1"),
        ({"name": "pusht", "max_steps": "many"}, "max_steps is 'many': a whole number or null"),
        ({"name": "pusht", "score": "return"}, "did you mean 'return_mean'"),
        ({"name": "pusht", "fps": 0}, "fps is 0"),
        ({"name": "pusht", "observation": {"state": ""}}, "observation.state is ''"),
        ({"name": "gym:"}, "a simulator's name is needed"),
        ({"name": ""}, "environment.name is ''"),
        ({"name": 5}, "environment.name is 5: a text is needed"),
        ({"name": "gym::Reach-v0"}, "gym:MODULE:ID"),
        ({"name": "gym:a:b:Reach-v0"}, "gym:MODULE:ID"),
        ({"name": "gym:reach:"}, "gym:MODULE:ID"),
        ({"name": "gym:.reach:Reach-v0"}, "gym:MODULE:ID"),
        ({"name": "a", "options": {"b": [float("nan")]}}, r"options is .*nan.* to be finite"),
        ({"name": "a", "reset": {"b": float("inf")}}, r"reset is .*inf.* to be finite"),
        (3, "environment is 3"),
    ],
)
def test_what_cannot_be_is_named(values, said):
    with pytest.raises(ConfigError, match=said):
        EnvSpec.read(values)


def test_an_id_may_name_the_module_that_registers_it():
    assert EnvSpec("gym:reach:Reach-v0").module == "reach"
    assert EnvSpec("gym:Pusher-v5").module is None
    assert EnvSpec("pusht").gymnasium_id is None


def test_a_task_s_own_words_come_before_the_family_s():
    assert score_name(EnvSpec("pusht")) == "max_reward_mean"
    assert score_name(EnvSpec("pusht", score="success_rate")) == "success_rate"
    assert score_name(EnvSpec("gym:Pendulum-v1")) is None
    assert stored_names(EnvSpec("pusht", observation={"picture": "image", "img": "other"})) == {
        "state": "exact_state",
        "picture": "image",
        "img": "other",
    }


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (EnvSpec("pushed"), "did you mean 'pusht'"),
        (EnvSpec("pusht", {"rendersize": 3}), "did you mean 'render_size'"),
        (EnvSpec("fetch"), "'fetch' is several tasks: name one. Known: fetch/reach, fetch/push"),
        (EnvSpec("fetch/pusch"), "'fetch' has no task 'pusch', did you mean 'push'"),
        (EnvSpec("fetch/push", {"task": "reach"}), "'fetch/push' has no option 'task'"),
        (EnvSpec("pusht", {"observation": ["state"]}), "has no option 'observation'"),
        (EnvSpec("gym:Pendulumm-v1"), "not registered.*Pendulum.*gym:MODULE:Pendulumm-v1"),
        (EnvSpec("gym:Pendulum-v9"), "not registered"),
        (EnvSpec("gym:nowhere_at_all:Thing-v0"), "needs nowhere_at_all, which cannot be imported"),
        (EnvSpec("gym:Pendulum-v1", {"gravity": 3}), "unexpected keyword argument 'gravity'"),
    ],
)
def test_what_cannot_be_made_is_named(spec, said):
    with pytest.raises(ConfigError, match=said):
        make_env(spec)


def test_a_module_that_lacks_another_is_told_apart_from_one_that_is_not_there(
    tmp_path, monkeypatch
):
    (tmp_path / "lacks_another.py").write_text("import the_other_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="needs the_other_module, which cannot be imported"):
        make_env("gym:lacks_another:Thing-v0")


def test_the_version_of_a_family_names_mujoco_where_it_is_computed_by_that(monkeypatch):
    needs = {
        "gymnasium-robotics": ["numpy>=1.21", "mujoco>=2.2.0", "mujoco_py; extra == 'old'"],
        "gym-aloha": ["mujoco (>=3.0.0,<3.9.0)"],
        "gym-pusht": ["pymunk", "mujoco-stubs", "mujoco>=2; extra == 'all'"],
    }
    monkeypatch.setattr(gymnasium_ids, "requires", needs.get)
    monkeypatch.setattr(gymnasium_ids, "version", {**dict.fromkeys(needs, "1"), "mujoco": "3"}.get)
    for family, said in (
        ("fetch/push", "gymnasium-robotics 1, mujoco 3"),
        ("aloha/insertion", "gym-aloha 1, mujoco 3"),
        ("pusht", "gym-pusht 1"),
    ):
        assert environment_version(family) == {"id": family, "version": said}


FAMILIES = (
    ("pusht", None),
    ("fork", None),
    ("maze/umaze", None),
    ("fetch/push", None),
    ("metaworld/reach", None),
    ("aloha/insertion", None),
    ("adroit/pen", None),
    ("kitchen/relay", None),
    ("robosuite/lift", sys.executable),
)


@pytest.mark.parametrize(("name", "python"), FAMILIES)
def test_an_option_of_another_type_is_refused_by_every_family(name, python):
    for options in (
        {"max_steps": 2.5},
        {"max_steps": True},
        {"max_steps": "many"},
        {"render_size": "big"},
        {"render_size": None},
    ):
        [(option, value)] = options.items()
        said = f"environment.options.{option} is {value!r}: a whole number"
        with pytest.raises(ConfigError, match=re.escape(said)):
            make_env(EnvSpec(name, python=python), **options)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("maze/umaze", {"end_at_success": "no"}, "end_at_success is 'no': true or false is needed"),
        ("maze/umaze", {"control": 1}, "control is 1: a text is needed"),
        ("fetch/push", {"end_at_success": 1}, "end_at_success is 1: true or false is needed"),
        ("fetch/push", {"image_size": True}, "image_size is True: a whole number is needed"),
        ("metaworld/reach", {"steps_after_success": 0.5}, "steps_after_success is 0.5"),
        ("aloha/insertion", {"image_size": "big"}, "image_size is 'big': a whole number or a list"),
        ("kitchen/relay", {"end_at_success": "no"}, "end_at_success is 'no': true or false"),
        ("fork", {"label": 3}, "label is 3: a text or null is needed"),
    ],
)
def test_an_option_of_another_type_names_the_one_that_is_needed(name, options, said):
    with pytest.raises(ConfigError, match=rf"environment\.options\.{said}"):
        make_env(name, **options)


def test_options_of_a_builder_without_types_are_taken_as_they_are(monkeypatch):
    def plain(hard="no"):
        return hard

    def annotated(hard: "OnlyForTypeCheckers" = None):  # noqa: F821
        return hard

    for build in (plain, annotated, functools.partial(plain)):
        monkeypatch.setitem(ENVIRONMENTS._table, "mine", Environment(build, "dipole"))
        assert make_env("mine", hard=3) == 3


def test_start_states_that_are_none_are_refused_in_one_line():
    for name, options, said in (
        ("pusht", {"state": "abc"}, "pusht's state is 'abc': five finite numbers are needed"),
        ("pusht", {"state": 5}, "pusht's state is 5"),
        ("fetch/reach", {"goal": "abc"}, "fetch's goal is 'abc': three finite numbers"),
        ("fetch/reach", {"goal": {"x": 1}}, "fetch's goal is {'x': 1}"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            make_env(name).reset(seed=0, options=options)


def test_an_option_of_numpy_s_is_the_number_that_it_is():
    environment = make_env("pusht", render_size=np.int64(32))
    environment.reset(seed=0)
    assert environment.render().shape == (32, 32, 3)

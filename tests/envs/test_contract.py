"""A task's environment: what it may say, and what is answered where it cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data.core.errors import ConfigError
from dipole.envs import gymnasium_ids
from dipole.envs.contract import SCORES, EnvSpec
from dipole.envs.registry import environment_version, make_env, score_name, stored_names


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

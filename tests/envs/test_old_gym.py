"""Environments of gym before its version 0.26, in an interpreter that has no gymnasium."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dipole.envs import EnvSpec, make_env
from dipole.envs.interpreter.standalone import making

GYM = '''
import numpy as np
class Box:
    def __init__(self, low, high): self.low, self.high, self.dtype = low, high, low.dtype
class Old:
    """Of gym 0.21: four results, a seed of its own, pictures by a mode."""
    metadata = {"render.modes": ["rgb_array"], "video.frames_per_second": 10}
    spec = type("Spec", (), {"entry_point": "old:Old"})
    observation_space = action_space = Box(np.zeros(1, "f4"), np.ones(1, "f4"))
    def seed(self, seed): self.random = np.random.RandomState(seed)
    def reset(self): return self.random.uniform(size=1)
    def step(self, action): return action, 1, True, {"TimeLimit.truncated": True}
    def render(self, mode): return np.zeros((4, 4, 3), "u1")
    def close(self): pass
class error:
    class Error(Exception): pass
    class UnregisteredEnv(Error): pass
def spec(name): return Old.spec
def make(name, **options): return Old()
'''


@pytest.mark.heavy
def test_old_gym_serves_where_there_is_no_gymnasium(tmp_path, monkeypatch):
    (tmp_path / "gym.py").write_text(GYM)
    hidden = tmp_path / "sitecustomize.py"  # gymnasium, from what is found
    hidden.write_text(
        "import importlib.util as u\nf = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'gymnasium' else f(name, *a)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = make_env(EnvSpec("gym:Old-v0", python=sys.executable), render=True)
    first = environment.reset(seed=4)[0]
    assert first == np.random.RandomState(4).uniform(size=1)
    assert environment.step(first)[1:] == (1.0, False, True, {"TimeLimit.truncated": True})
    assert environment.render().shape == (4, 4, 3)
    environment.close()


class OldSimulator:
    """Of gym 0.21; `reset` takes nothing."""

    metadata, spec, observation_space, action_space = {}, None, None, None

    def __init__(self):
        self.unwrapped, self.seeded, self.was_reset = self, None, []

    def seed(self, seed):
        self.seeded = seed

    def reset(self):
        self.was_reset.append({})
        return np.zeros(1)


class NewerSimulator(OldSimulator):
    """Of gym 0.22 and later."""

    def reset(self, *, seed=None, options=None):
        self.was_reset.append({"seed": seed, "options": options})
        return np.zeros(1), {}


class Mistaken(OldSimulator):
    def reset(self, seed=None, options=None):
        self.was_reset.append({})
        return None + 1


class PassesOn:
    """A wrapper of gym, such as its time limit."""

    def __init__(self, environment):
        self.env, self.unwrapped, self._max_episode_steps = environment, environment.unwrapped, 100
        for name in ("metadata", "spec", "observation_space", "action_space", "seed"):
            setattr(self, name, getattr(environment, name))

    def reset(self, **given):
        return self.env.reset(**given)


@pytest.mark.parametrize("wrappers", [0, 1, 2])
def test_gym_s_reset_is_given_what_it_takes(wrappers):
    def wrapped(simulator):
        for _ in range(wrappers):
            simulator = PassesOn(simulator)
        return making.Gym(simulator)

    old, newer, mistaken = OldSimulator(), NewerSimulator(), Mistaken()
    assert wrapped(old).reset(seed=4)[1] == {}
    assert (old.seeded, old.was_reset) == (4, [{}])
    with pytest.raises(ValueError, match=r"environment.reset is {'goal': 1}, .* takes no options"):
        wrapped(old).reset(seed=4, options={"goal": 1})
    assert wrapped(newer).reset(seed=4, options={"goal": 1})[1] == {}
    assert newer.was_reset == [{"seed": 4, "options": {"goal": 1}}]
    with pytest.raises(TypeError, match="NoneType"):  # its own mistake, made once
        wrapped(mistaken).reset(seed=4)
    assert mistaken.was_reset == [{}]


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("knows_limits", [True, False])
def test_a_time_limit_is_no_option_of_an_old_gym_s_simulator(monkeypatch, registered, knows_limits):
    given = {}
    made = PassesOn(OldSimulator()) if registered else OldSimulator()

    def knowing(name, max_episode_steps=None, **options):
        given.update(options, limit=max_episode_steps)
        return made

    def old(name, **options):
        given.update(options)
        return made

    library = SimpleNamespace(
        __name__="gym",
        make=knowing if knows_limits else old,
        error=SimpleNamespace(Error=KeyError, UnregisteredEnv=KeyError),
    )
    monkeypatch.setattr(making, "_library", lambda: library)
    making.by_id("Old-v0", 400, {"size": 3}, render=False)
    assert given == ({"size": 3, "limit": 400} if knows_limits else {"size": 3})
    if registered and not knows_limits:
        assert made._max_episode_steps == 400

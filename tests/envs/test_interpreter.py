"""A simulator in its own interpreter: the same episodes, and every way in which it can fail.

Tests with another numpy read DIPOLE_OTHER_PYTHON, an interpreter with numpy < 2, gymnasium and
msgpack, which .ci/run makes; without it they are skipped.
"""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.envs import EnvSpec, environment_version, evaluate, make_env
from dipole.envs.interpreter.client import InterpreterEnv, make_there
from dipole.envs.rollout import RolloutError

HERE = Path(__file__).parent
OTHER = os.environ.get("DIPOLE_OTHER_PYTHON")
TROUBLED = "gym:troubled:Troubled-v0"
UP = np.ones(2, np.float32)
heavy = pytest.mark.heavy


@pytest.fixture(autouse=True)
def _found_by_other_interpreters(monkeypatch):
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), before])))


def other(name=TROUBLED, python=sys.executable, **more):
    return EnvSpec(name, python=python, **more)


def executable(tmp_path, text):
    path = tmp_path / "python"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def states(*pids):
    """Of processes: "Z" for a zombie that its own parent has left, None where it is gone."""
    found = [Path(f"/proc/{int(pid)}/stat") for pid in pids]
    return [
        each.read_text().rpartition(")")[2].split()[0] if each.exists() else None for each in found
    ]


def assert_gone(*pids):
    until = time.monotonic() + 20
    while not set(states(*pids)) <= {None, "Z"}:
        assert time.monotonic() < until, states(*pids)
        time.sleep(0.05)


def test_interpreters_that_there_are_not_are_refused(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").touch()
    for python, said in (
        (str(tmp_path / "no"), "there is no such file"),
        (str(tmp_path), f"a folder.*{tmp_path}/bin/python"),
        (str(tmp_path / "bin/python"), "not executable"),
        ("pythn9.9", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=f"environment.python is '{python}'.*{said}"):
            make_env(other(python=python))


def test_a_family_that_runs_in_this_interpreter_alone_says_so():
    with pytest.raises(ConfigError, match=r"'pusht' does not run in an interpreter of its own"):
        make_env(EnvSpec("pusht", python=sys.executable))


def test_what_a_simulator_raises_is_told_with_its_traceback_and_it_goes_on():
    environment = make_env(other(options={"trouble": "raises"}), render=True)
    try:
        _, info = environment.reset(seed=1, options={"goal": [1, 2.5]})
        assert info == {"options": {"goal": [1, 2.5]}}  # and not what cannot be sent
        pictures = [environment.observe()["image"].mean()]
        for _ in range(4):
            environment.advance(UP)
        assert environment.render().shape == (480, 640, 3)
        assert environment.render().mean() == 2  # it was looked at twice, and not in each step
        with pytest.raises(RolloutError, match="ZeroDivisionError: the physics exploded") as error:
            environment.advance(UP)
        assert 'troubled.py", line' in str(error.value)
        observation, reward, terminated, truncated, info = environment.step(UP)
        assert (reward, terminated, truncated) == (6.0, False, False)
        assert (observation["image"].mean(), observation["inner"]) == (6, {"age": 6})
        assert (info["is_success"], info["action"].dtype) == (np.False_, np.float32)
        assert not environment.advance(UP)[2]
        assert environment.advance(UP)[2]  # the registered time limit, of steps that were made
        assert pictures == [0]
        assert (environment.dt, environment.metadata["modes"]) == (0.05, ["left"])
        assert environment.hold_action().tolist() == [0, 0]
        assert environment.action_space.contains(UP)
        assert environment.observation_space["inner"]["age"].n == 100
    finally:
        environment.close()


FAULTS = {
    "exits": r"ended with exit code 7 during advance; .*\n.*\n    out of licences",
    "killed": r"ended by signal SIGKILL during advance \(often the end of memory",
    "hangs": r"not answered advance for 2 s, and was ended; environment.timeout=SECONDS",
    "hangs_with_the_lock": r"not answered advance for 2 s",
    "writes_garbage": r"answered advance with what is no message: 3 bytes",
}


@heavy
@pytest.mark.parametrize("trouble", FAULTS)
def test_death_hang_and_garbage_are_errors_and_leave_no_process(trouble):
    options = {"trouble": trouble, "children": True}
    timeout = 2 if trouble.startswith("hangs") else 60
    environment = make_env(other(options=options, timeout=timeout))
    pids = environment.reset(seed=1)[0]["pid"]
    for _ in range(4):
        environment.advance(UP)
    with pytest.raises(RolloutError, match=FAULTS[trouble]):
        environment.advance(UP)
    with pytest.raises(RolloutError, match=FAULTS[trouble]):  # it stays dead
        environment.observe()
    environment.close()
    assert_gone(*pids)


@heavy
def test_an_environment_that_is_closed_or_forgotten_leaves_no_process():
    for forget in (False, True):
        environment = make_env(other(options={"children": True}))
        pids = environment.reset(seed=1)[0]["pid"]
        if not forget:
            environment.close()
            environment.close()
        del environment
        gc.collect()
        assert_gone(*pids)


PARENT = """
import sys, time
from dipole.envs import EnvSpec, make_env
spec = EnvSpec(sys.argv[1], python=sys.executable, options={"trouble": sys.argv[2]})
environment = make_env(spec)
print(*environment.reset(seed=1)[0]["pid"], flush=True)
for _ in range(5):
    environment.advance([0.0, 0.0])
"""


@heavy
@pytest.mark.parametrize("trouble", ["hangs", "hangs_with_the_lock"])
def test_a_parent_that_is_killed_leaves_no_process(trouble):
    command = [sys.executable, "-c", PARENT, TROUBLED, trouble]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid, _ = map(float, parent.stdout.readline().split())
        time.sleep(1)  # it hangs in its fifth step
        assert states(pid) not in ([None], ["Z"])
        parent.kill()
    assert_gone(pid)


@heavy
def test_ctrl_c_reaches_the_main_process_alone():
    command = [sys.executable, "-c", PARENT, TROUBLED, "hangs"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as parent:
        pid, _ = map(float, parent.stdout.readline().split())
        time.sleep(1)
        os.killpg(parent.pid, signal.SIGINT)
        said = parent.communicate(timeout=30)[1]
    assert said.strip().endswith("KeyboardInterrupt")
    assert_gone(pid)


@heavy
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho hello\nexit 3\n", r"which is no Python interpreter; .*\n    hello"),
        ("#!/bin/sh\necho 3.7.16\n", r"Python 3\.7\.16: 3\.8 or later is needed"),
        (
            f'#!/bin/sh\n[ $1 = -c ] && exec {sys.executable} "$@"\nexit 1\n',
            "could not start server",
        ),
        ("not a program", "cannot be started"),
    ],
)
def test_what_is_no_interpreter_that_can_serve_is_refused(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        make_env(other(python=executable(tmp_path, text)))


@heavy
def test_what_is_missing_there_is_said_with_the_command_that_installs_it(tmp_path):
    bare = executable(tmp_path, f"#!/bin/sh\nexec {sys.executable} -I -S $@\n")
    lacks = f"lacks numpy and msgpack: {bare} -m pip install numpy msgpack"
    with pytest.raises(ConfigError, match=lacks):
        make_env(other(python=bare))
    with pytest.raises(ConfigError, match=r"needs no_such_module.*PYTHONPATH"):
        make_env(other("gym:no_such_module:X-v0"))
    with pytest.raises(ConfigError, match=r"'gym:NoSuch-v0' in .*NoSuch"):
        make_env(other("gym:NoSuch-v0"))
    with pytest.raises(ConfigError, match=r"unexpected keyword argument 'wrong'"):
        make_env(other(options={"wrong": 1}))


class Feedback:
    """Actions are linear in what is observed, with noise of each row's own."""

    window = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
    device = torch.device("cpu")
    features = Features({"state": Feature((3,))}, Feature((1,), kind="action"))

    def predict(self, observation, generator=None):
        drive = torch.tanh(observation["state"][:, -1].sum(-1))[:, None, None]
        return drive + torch.stack([torch.randn(8, 1, generator=each) for each in generator])


@heavy
@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_is_the_same_as_in_this_interpreter(workers):
    here = EnvSpec("gym:Pendulum-v1", max_steps=30)
    there = EnvSpec("gym:Pendulum-v1", max_steps=30, python=sys.executable)
    found = [evaluate(Feedback(), each, episodes=3, workers=workers) for each in (here, there)]
    assert found[0].episodes == found[1].episodes
    version = found[1].metrics["environment"]["version"]
    python = ".".join(map(str, sys.version_info[:3]))
    assert version.endswith(f", numpy {np.__version__}, Python {python}")


@heavy
@pytest.mark.parametrize("workers", [0, 1])
def test_an_episode_that_fails_is_named(workers, tmp_path):
    class Pictured(Feedback):
        features = Features({"pid": Feature((2,))}, Feature((2,), kind="action"))

        def predict(self, observation, generator=None):
            return torch.zeros(len(generator), 8, 2)

    spec = other(options={"trouble": "exits"})
    with pytest.raises(RolloutError, match=r"episode 0 \(seed 5\): the simulator in .*exit code 7"):
        evaluate(Pictured(), spec, episodes=1, seed=5, workers=workers)


@heavy
@pytest.mark.skipif(OTHER is None, reason="DIPOLE_OTHER_PYTHON names no other interpreter")
def test_an_interpreter_with_another_numpy_gives_the_same_numbers():
    spec = EnvSpec("gym:Pendulum-v1", python=OTHER)
    there, here = make_env(spec), make_env("gym:Pendulum-v1")
    assert isinstance(there, InterpreterEnv)
    assert there.versions  # of gymnasium
    assert there.interpreter.has["numpy"].split(".")[0] != np.__version__.split(".")[0]
    assert f"numpy {there.interpreter.has['numpy']}" in environment_version(spec)["version"]
    assert there.reset(seed=3)[0].tolist() == here.reset(seed=3)[0].tolist()
    for _ in range(50):
        action = np.array([0.7], np.float32)
        one, other_one = there.step(action), here.step(action)
        np.testing.assert_allclose(one[0], other_one[0], rtol=1e-5, atol=1e-5)
        assert one[1] == pytest.approx(other_one[1], rel=1e-5)
    there.close()


PAGE = (HERE.parents[1] / "docs/interpreter.md").read_text()


@heavy
def test_the_page_s_environment_runs_in_another_interpreter(tmp_path, monkeypatch):
    made, used = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "slide.py").write_text(made)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    page = {}
    exec(compile(used.replace("other/bin/python", OTHER or sys.executable), "page", "exec"), page)
    environment, observation = page["environment"], page["observation"]
    steps, over = 0, False
    while not over:
        move = observation["state"][1] - observation["state"][0]
        action = np.clip([move], -0.1, 0.1).astype(np.float32)
        observation, _, over, _, info = environment.step(action)
        steps += 1
    assert (info["is_success"], steps < 40) == (True, True)
    environment.close()


def test_its_tasks_and_its_limit_are_known_here():
    plain = make_env(other())
    assert (plain.tasks, plain.max_steps) == ((), 7)
    plain.close()
    both = make_env(other(max_steps=3, options={"tasks": ["a", "b"]}))
    assert (both.tasks, both.max_steps) == (("a", "b"), 3)
    both.close()


STANDALONE = """
from troubled import Troubled
def make(task, observation, max_steps=None, **options):
    made = Troubled(**options)
    made.max_steps = 400 if max_steps is None else max_steps
    return made
"""


@pytest.mark.parametrize(("asked", "found"), [(None, 400), (800, 800)])
def test_a_family_s_own_limit_is_raised_by_the_task_s(tmp_path, asked, found):
    (tmp_path / "standalone.py").write_text(STANDALONE)
    spec = EnvSpec("family/task", python=sys.executable, max_steps=asked)
    made = make_there(spec, {}, standalone=str(tmp_path / "standalone.py"))
    assert made.max_steps == found
    made.close()

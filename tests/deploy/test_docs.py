"""The example in docs/deploy.md is complete: it runs."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
from real_server import TOKEN, running, served
from virtual_robot import WINDOW

from dipole.deploy import ActionSpec, ControlLoop, LoopConfig, RealClock, Robot
from dipole.deploy.chunks.blending import make_merger
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.robots.registry import import_robots, make_robot
from dipole.deploy.server.config import ServerConfig
from dipole.deploy.types import PolicySpec
from dipole.deploy.wire.openpi import OpenpiTerms
from dipole.deploy.wire.websocket import ClientConfig

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "deploy.md").read_text()
SERVED = (DOCS / "serve.md").read_text()


def reach(ticket, observation):
    here = observation["joints"][-1]
    return {"action": here + 0.02 * (1.0 - here) * (WINDOW.horizon * [[1.0]])}


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    example = re.search(r'```python\n("""my_arm.*?)```', PAGE, re.DOTALL)[1]
    path = tmp_path_factory.mktemp("docs") / "my_arm.py"
    path.write_text(example)
    import_robots(path)
    assert len(example.split("@ROBOTS")[1].splitlines()) <= 40
    return make_robot("my_arm")


def test_the_example_robot_moves_within_its_limits(arm):
    inference = ThreadInference(PolicySpec({"joints": (2,)}, 2, WINDOW), reach)
    config = LoopConfig(max_observation_age=1.0, call_timeout=1.0)
    loop = ControlLoop(arm, inference, config, clock=RealClock(), log=lambda line: None)
    loop.prepare()
    sent = [arm.driver.positions]
    arm.driver.servo = lambda positions: sent.append(np.array(positions))
    loop.arm()
    report = run_watched(loop, 1.5)
    loop.close()
    assert report.stopped is True
    assert report.counts["actions"] > 5, str(report)
    velocity = np.diff(sent, axis=0) / 0.01
    assert np.abs(velocity).max() <= 1.0 + 1e-6
    assert velocity.max() > 0.1
    assert not velocity[-1].any()


@pytest.mark.parametrize(("name", "driver"), [("my_arm", "driver"), ("two_cameras", "arm")])
def test_stop_of_an_example_robot_sends_its_last_setpoint_again(name, driver, tmp_path):
    example = re.search(rf'```python\n("""{name}.*?)```', PAGE, re.DOTALL)[1]
    path = tmp_path / f"{name}.py"
    path.write_text(example.replace(f'@ROBOTS.add("{name}")\n', ""))
    module = runpy.run_path(str(path))
    robot = next(kind for kind in module.values() if is_robot(kind))()
    robot.connect()
    sent = []
    getattr(robot, driver).servo = lambda positions: sent.append(list(positions))
    robot.stop()
    assert sent == []  # nothing was ever commanded: it rests where it is
    robot.command(np.array([0.1, 0.2]))
    robot.command(np.array([0.2, 0.3]))
    robot.stop()
    robot.close()
    assert sent == [[0.1, 0.2], [0.2, 0.3], [0.2, 0.3]]


def is_robot(kind):
    return isinstance(kind, type) and issubclass(kind, Robot) and kind is not Robot


def test_every_file_that_a_comment_or_docstring_of_the_loop_names_exists():
    files = list((DOCS.parent / "deploy").rglob("*.py"))
    files += (DOCS.parent / "data" / "transforms").glob("*.py")
    known = {path.name for path in files} | {"my_arm.py"}
    named = {
        (path.name, name) for path in files for name in re.findall(r"\b\w+\.py\b", path.read_text())
    }
    assert ("base.py", "remote.py") in named
    assert [f"{path}: {name}" for path, name in sorted(named) if name not in known] == []


def test_every_setting_the_page_names_exists():
    settings = set(re.findall(r"`deploy\.(\w+)", PAGE))
    assert {"max_hold", "max_limited", "call_timeout"} <= settings
    assert settings <= set(LoopConfig.__dataclass_fields__)


def test_the_program_for_a_robots_computer_runs_as_it_stands(arm, tmp_path, monkeypatch, capsys):
    program = re.search(r'```python\n("""run_arm.*?)```', SERVED, re.DOTALL)[1]
    example = re.search(r'```python\n("""my_arm.*?)```', PAGE, re.DOTALL)[1]
    (tmp_path / "my_arm.py").write_text(example.replace('@ROBOTS.add("my_arm")\n', ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DIPOLE_TOKEN", TOKEN)
    monkeypatch.delitem(sys.modules, "my_arm", raising=False)
    policy = served(reach, PolicySpec({"joints": (2,)}, 2, WINDOW))
    with running(policy, token=TOKEN) as server:
        here = program.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        here = here.replace("seconds=30.0", "seconds=1.0")
        here = here.replace("LoopConfig()", "LoopConfig(max_observation_age=1.0, call_timeout=1.0)")
        exec(compile(here, "run_arm.py", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert "dry run: would send shoulder" in said
    assert "ended STOPPED: the time is up" in said
    assert len(list((tmp_path / "runs" / "arm").glob("20*/flight.rec"))) == 1


def test_every_setting_of_the_servers_page_exists():
    for prefix, config in (
        ("server", ServerConfig),
        ("client", ClientConfig),
        ("deploy", LoopConfig),
    ):
        named = set(re.findall(rf"`{prefix}\.(\w+)`", SERVED))
        assert named
        assert named <= set(config.__dataclass_fields__)
    assert {"prompt", "observation", "n_action_steps"} <= set(OpenpiTerms.__dataclass_fields__)


def test_the_merger_of_the_architecture_page_works():
    page = (DOCS / "architecture.md").read_text()
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(next(block for block in blocks if "MERGERS" in block), names)
    spec = ActionSpec(("x",), measured_by="x")
    merger = make_merger("patient", spec, near=0.05)
    old = [np.array([value]) for value in (0.0, 0.1, 0.2)]
    merged = merger.merge(old, np.array([[0.5], [0.12], [0.2], [0.3]]), 0)
    assert merged[:, 0].tolist() == [0.0, 0.12, 0.2, 0.3]

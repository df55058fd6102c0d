"""The example in docs/deploy.md is complete: it runs."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from virtual_robot import WINDOW

from dipole.deploy import ControlLoop, LoopConfig, RealClock
from dipole.deploy.inference import PolicySpec
from dipole.deploy.robots import import_robots, make_robot
from dipole.deploy.session import run_watched
from dipole.deploy.thread_inference import ThreadInference

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()


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
    loop.arm()
    report = run_watched(loop, 1.5)
    loop.close()
    assert report.stopped is True
    assert report.counts["actions"] > 5
    assert (arm.driver.positions > 0.01).all()


def test_every_setting_the_page_names_exists():
    settings = set(re.findall(r"`deploy\.(\w+)", PAGE))
    assert {"max_hold", "max_clamps", "call_timeout"} <= settings
    assert settings <= set(LoopConfig.__dataclass_fields__)

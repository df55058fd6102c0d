"""The choice of OpenGL without a display."""

import os
import subprocess
import sys

import pytest

from dipole.envs import make_env
from dipole.envs.gymnasium_ids import silence_notice
from dipole.envs.media.headless import prepare_rendering


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "egl"),
        ("linux", {"DISPLAY": ":0"}, None),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, None),
        ("linux", {"MUJOCO_GL": "osmesa"}, "osmesa"),
        ("darwin", {}, None),
    ],
)
def test_egl_is_chosen_where_no_display_is(monkeypatch, platform, environment, expected):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so.1")
    monkeypatch.setattr(os, "environ", dict(environment))
    prepare_rendering()
    assert os.environ.get("MUJOCO_GL") == expected


def test_nothing_is_chosen_where_mujoco_could_not_be_imported_with_it(monkeypatch):
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setattr(os, "environ", {})
    prepare_rendering()
    assert os.environ == {}


def test_it_is_chosen_before_the_module_of_a_gymnasium_id_is_imported(tmp_path, monkeypatch):
    (tmp_path / "reads_the_choice.py").write_text("import os\nSEEN = os.environ['MUJOCO_GL']\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so.1")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.setenv(name, "")
    make_env("gym:reads_the_choice:Pendulum-v1").close()
    assert sys.modules.pop("reads_the_choice").SEEN == "egl"


def test_of_gymnasium_robotics_notices_only_that_about_adroit_is_left_out(monkeypatch):
    farama = pytest.importorskip("farama_notifications")
    told = {"1.4.2": "AdroitHandDoorDense-v1 was changed", "1.5.0": "Fetch was changed"}
    monkeypatch.setattr(farama, "notifications", {"gymnasium_robotics": told})
    silence_notice()
    assert told == {"1.5.0": "Fetch was changed"}


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["fetch/reach", "maze/umaze", "adroit/pen", "gym:FetchReach-v4"])
def test_a_simulator_of_gymnasium_robotics_is_made_without_a_word(name):
    pytest.importorskip("gymnasium_robotics")
    made = f"from dipole.envs import make_env; make_env({name!r})"
    run = subprocess.run(
        [sys.executable, "-c", made], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

"""`dipole doctor`: every finding has a detail, what is missing has a remedy, exit codes for CI."""

import json
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from dipole.apps.commands import doctor
from dipole.apps.commands.doctor import machine, rendering, simulators


@pytest.fixture(scope="module")
def findings():
    with pytest.MonkeyPatch.context() as patch:  # making them all takes seconds: a test of its own
        patch.setattr(doctor.simulators, "simulators", lambda: iter(()))
        return doctor.examine()


def test_it_reports_every_library_that_dipole_needs(findings):
    reported = {finding.name: finding for finding in findings if finding.topic == "versions"}
    for name in ("torch", "diffusers", "gymnasium", "zarr", "hydra-core", "numpy", "safetensors"):
        assert reported[name].detail == metadata.version(name)
        assert reported[name].ok


def test_what_is_installed_is_loaded_by_its_module_s_name(findings):
    """google-crc32c is google_crc32c: a sound library was once called broken."""
    libraries = [library for e in (None, *machine.extras()) for library in machine.libraries(e)]
    assert {"google-crc32c", "pillow-jxl-plugin"} <= {library.name for library in libraries}
    assert [x.detail for x in libraries if "does not load" in x.detail] == []


def test_it_reports_every_extra(findings):
    declared = metadata.metadata("dipole").get_all("Provides-Extra")
    assert [f.name for f in findings if f.topic == "extras"] == declared
    assert {"pusht", "wandb", "dev"} <= set(declared)


def test_it_reports_devices_and_resources(findings):
    reported = {finding.name: finding.detail for finding in findings}
    assert "cores usable" in reported["cpu"]
    assert "OMP_WAIT_POLICY" in reported["threads"]
    assert "GiB free" in reported["memory"]
    assert "GiB free of" in reported["disk"]


def test_it_draws_push_t_and_encodes_h264(findings):
    pytest.importorskip("gym_pusht")
    reported = {finding.name: finding for finding in findings if finding.topic == "rendering"}
    assert reported["push-t"].ok, reported["push-t"].detail
    assert reported["h264"].ok, reported["h264"].detail


def test_it_draws_mujoco_by_what_is_named_without_a_display(findings):
    pytest.importorskip("mujoco")
    drawn = [finding for finding in findings if finding.topic == "rendering"]
    (found,) = [finding for finding in drawn if finding.name == "mujoco"]
    assert found.ok, found.detail
    assert found.detail.startswith("draws 32 x 32 by ")


def test_opengl_that_does_not_work_is_answered_with_a_remedy(monkeypatch):
    renderer = pytest.importorskip("dipole.envs.media.mujoco_renderer")

    def broken(*arguments):
        raise ImportError("Unable to load EGL library")

    monkeypatch.setattr(renderer, "OffscreenRenderer", broken)
    detail, ok, remedy = rendering.mujoco()
    assert (detail, ok) == ("cannot draw: Unable to load EGL library", False)
    assert "MUJOCO_GL=egl" in remedy


@pytest.mark.heavy
def test_it_makes_an_environment_of_each_family():
    pytest.importorskip("gymnasium_robotics")
    found = {finding.name: finding for finding in doctor._simulators()}
    assert found["fork"].ok
    assert (found["fetch"].ok, found["fetch"].detail) == (
        True,
        f"gymnasium-robotics {metadata.version('gymnasium-robotics')}, "
        f"mujoco {metadata.version('mujoco')}, 4 tasks",
    )
    assert {"pusht", "metaworld", "adroit", "kitchen"} <= set(found)


def test_a_simulator_that_is_not_installed_is_answered_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    monkeypatch.delitem(sys.modules, "dipole.envs.fetch.environment", raising=False)
    monkeypatch.setitem(sys.modules, "gymnasium_robotics.envs.fetch.pick_and_place", None)
    detail, ok, remedy = simulators._made("fetch")
    assert not ok
    assert "is not installed" in detail
    assert remedy == "pip install 'dipole[robotics]'"


def test_a_missing_library_is_answered_with_the_command_that_adds_it(monkeypatch):
    monkeypatch.setattr(machine, "_requirements", lambda extra: iter([Requirement("no-such>=2")]))
    (library,) = machine.libraries(None)
    assert (library.works, library.detail) == (False, "not installed")
    finding = doctor._library_finding("versions", library, required=True)
    assert finding.remedy == "pip install 'no-such>=2'"
    extra = next(iter(doctor._extras()))
    assert extra.remedy == "pip install 'dipole[pusht]'"


def test_a_version_outside_the_range_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "_requirements", lambda extra: iter([Requirement("numpy<1")]))
    (library,) = machine.libraries(None)
    assert not library.works
    assert library.detail == f"{metadata.version('numpy')}, needed <1"


def test_a_library_that_does_not_load_is_told_apart_from_a_missing_one(monkeypatch):
    def broken(name):
        raise OSError("undefined symbol: x\nand more")

    monkeypatch.setattr(machine.importlib, "import_module", broken)
    library = machine._library(Requirement("numpy"))
    assert library.detail.endswith("does not load: undefined symbol: x")


def test_opencv_without_libgl_is_answered_with_a_remedy():
    error = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    assert "libgl1" in rendering._remedy(error)


def healthy(name="torch", ok=True):
    return doctor.Finding("versions", name, "1.0", ok=ok, required=True)


def test_the_exit_code_is_1_only_where_something_required_is_broken(monkeypatch, capsys):
    optional = doctor.Finding("extras", "wandb", "not installed", ok=False, remedy="pip install it")
    monkeypatch.setattr(doctor, "examine", lambda: [healthy(), optional])
    assert doctor.main([]) == 0
    assert "-> pip install it" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: [healthy(ok=False), optional])
    assert doctor.main([]) == 1
    assert capsys.readouterr().err == "\nbroken: torch\n"


def test_json_is_for_programs(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [healthy()])
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["findings"][0]["name"] == "torch"

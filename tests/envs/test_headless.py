"""The choice of OpenGL without a display."""

import os

import pytest

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
    monkeypatch.setattr(os, "environ", dict(environment))
    prepare_rendering()
    assert os.environ.get("MUJOCO_GL") == expected

"""The page about cameras renders pictures of random states, to pretrain an image encoder with."""

import re
from pathlib import Path

import numpy as np

from dipole.data import EpisodeStore
from dipole.envs import make_env

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "images.md").read_text()


def test_rendered_pictures_show_the_states_beside_them(tmp_path, monkeypatch):
    code = re.search(r"random states show more.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("range(100)", "range(3)"), "docs/images.md", "exec"), {})
    store = EpisodeStore.open(tmp_path / "rendered.zarr")
    assert (store.n_episodes, store.n_frames) == (3, 9)
    env = make_env("pusht", observation=["image", "state"])
    env.reset(seed=1)
    env.set_state(store["state"].read(4, 5)[0])
    difference = env.observe()["image"].astype(int) - store["img"].read(4, 5)[0]
    assert np.abs(difference).mean() < 0.5

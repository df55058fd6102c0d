"""`dipole record`: settings, an expert to a dataset, a hand to a dataset."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from dipole.apps.commands.record import RecordConfig, _next_command, _rate, record
from dipole.apps.compose import compose
from dipole.apps.main import main
from dipole.data import EpisodeStore, EpisodeWriter
from dipole.data.core.errors import ConfigError, DataError
from dipole.envs.contract import EnvSpec
from dipole.envs.experts.demonstrate import DemonstrationSpec
from dipole.envs.experts.first_look import first_look_by_hand
from dipole.envs.registry import ENVIRONMENTS, Environment
from dipole.envs.rollout.cluster.settings import ClusterSettings


def test_the_file_s_values_are_the_settings_own():
    config = compose("record", ["output=x.zip"])
    for field in dataclasses.fields(RecordConfig):
        if field.name not in ("output", "cluster"):
            assert config[field.name] == field.default, field.name
    on_ray = compose("record", ["cluster=ray", "output=x.zip"])
    assert on_ray["cluster"] == dataclasses.asdict(ClusterSettings())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["outptu=x"], 2, "did you mean 'output'"),
        (["episodes=1"], 2, "output is not set: dipole record output=VALUE"),
        (["output=x", "seed=1", "seed=2"], 2, "seed is given twice"),
        (["output"], 2, "output=VALUE"),
        (["episodes=ten", "output=x"], 2, "episodes is 'ten': a whole number or null"),
        (["mouse=perhaps", "output=x"], 2, "true or false is needed"),
        (["episodes=0", "output=x"], 2, "at least 1"),
        (["keep=succes", "output=x"], 2, "did you mean 'success'"),
        (["mouse=true", "keep=all", "output=x"], 2, "an episode that fails is made again"),
        (["task=fork", "shoves=0.1", "output=x"], 2, "of no size: give shove=SIZE"),
        (["shoves=2", "output=x"], 2, "between 0 and 1"),
        (["workers=2", "cluster=ray", "output=x"], 2, "say cluster.actors=N"),
        (["mouse=true", "cluster=ray", "output=x"], 2, "a window is on this machine"),
        (["cluster=ray", "cluster.policies=1", "output=x"], 2, "policies act in the simulators'"),
        (["cluster=ry", "output=x"], 2, "did you mean 'ray'"),
        (["takeover_steps=30", "output=x"], 2, "give takeover=RUN"),
        (["label_every=4", "output=x"], 2, "label_every=4, but nobody teaches: give teacher=RUN"),
        (["teacher_acts=0.3", "output=x"], 2, "nobody teaches"),
        (["takeover=run", "takeover_steps=0", "output=x"], 2, "at least 1"),
        (["task=fork", "shove=0.5", "output=x"], 2, "give shoves=PROBABILITY"),
        (["shove=40", "shoves=0", "output=x"], 2, "shove=40, and the probability of a shove is 0"),
        (["solver.steps=4", "output=x"], 2, "solver.steps=4, which is of a teacher and its"),
        (["takeover=run", "solver=ddim", "output=x"], 2, "takeover=RUN draws as its checkpoint"),
        (["mouse=true", "solver.steps=4", "output=x"], 2, "nobody teaches"),
        (["n_envs=4", "output=x"], 2, "n_envs=4, but nobody teaches: give teacher=RUN"),
        (["mouse=true", "drift=1", "output=x"], 2, "drift=1 with mouse=true"),
        (["mouse=true", "shoves=0.1", "output=x"], 2, "shoves=0.1 with mouse=true"),
        (["mouse=true", "shove=3", "output=x"], 2, "shove=3 with mouse=true"),
        (["mouse=true", "workers=2", "output=x"], 2, "workers=2 with mouse=true"),
        (["mouse=true", "video_episodes=2", "output=x"], 2, "video_episodes=2 with mouse=true"),
        (["expert=pusht", "mouse=true", "output=x"], 2, "choose who acts"),
        (["teacher=run", "expert=pusht", "output=x"], 2, "excludes mouse=true, expert="),
        (["student=run", "output=x"], 2, "nobody says what it should have done"),
        (["teacher=run", "output=x"], 1, "run: no such folder"),
        (["teacher=run", "label_every=0", "output=x"], 2, "label_every=0: it is at least 1"),
        (["task=pusht_stat", "output=x"], 2, "did you mean 'pusht_state'"),
        (["expert=push", "output=x"], 2, "did you mean 'pusht'"),
        (["task.environment=null", "output=x"], 2, "has no simulator to record in"),
        (["+task.acton={}", "output=x"], 2, "there is no task.acton, did you mean 'action'"),
        (["+task.window.n_obs_step=2", "output=x"], 2, "did you mean 'n_obs_steps'"),
        (["task.environment.name=gm:spring:S-v0", "output=x"], 2, "mean 'gym:spring:S-v0'?"),
    ],
)
def test_what_cannot_be_recorded_is_answered(words, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["record", *words]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.heavy)])
def test_an_expert_s_dataset_is_the_same_for_any_number_of_workers(tmp_path, workers, capsys):
    pytest.importorskip("gym_pusht")
    from dipole.envs.experts.demonstrate import demonstrate
    from dipole.envs.pusht.family import DISTURBANCE

    path = tmp_path / "expert.zarr.zip"
    words = ["expert=pusht", "episodes=2", "seed=1000003", f"workers={workers}", f"output={path}"]
    assert main(["record", *words]) == 0
    said = capsys.readouterr().out
    assert "2 episodes" in said
    assert f"train with: dipole train dataset={tmp_path}" in said
    store = EpisodeStore.open(path)
    expected = [demonstrate("pusht", seed, DISTURBANCE) for seed in (1000003, 1000004)]
    assert store.fps == 10.0
    assert store.episode_ends.tolist() == np.cumsum([len(e) for e in expected]).tolist()
    for key in ("state", "action", "executed_action"):
        np.testing.assert_array_equal(
            store[key][:], np.concatenate([e.frames[key] for e in expected])
        )


def test_the_frame_rate_is_the_environment_s_own(monkeypatch):
    class Fast(gymnasium.Env):
        metadata = {"render_fps": 25}  # noqa: RUF012

    class Silent(gymnasium.Env):
        metadata = {}  # noqa: RUF012

    monkeypatch.setattr(ENVIRONMENTS, "_table", dict(ENVIRONMENTS._table))
    ENVIRONMENTS.add("fast")(Environment(Fast, "numpy", ""))
    ENVIRONMENTS.add("silent")(Environment(Silent, "numpy", ""))
    assert first_look_by_hand(EnvSpec("fast")).fps == 25.0
    settings, silent = RecordConfig("x"), DemonstrationSpec(EnvSpec("silent"))
    with pytest.raises(ConfigError, match="'silent' does not say how fast it is: give fps=N"):
        _rate(settings, silent, first_look_by_hand(silent.environment))


def test_an_existing_dataset_is_not_overwritten(tmp_path, capsys):
    path = tmp_path / "mine"
    path.mkdir()
    assert main(["record", "expert=pusht", "episodes=1", f"output={path}"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_plain_configuration_is_enough(tmp_path):
    pytest.importorskip("gym_pusht")
    config = compose("record", ["episodes=1", "seed=1000003", f"output={tmp_path / 'one.zarr'}"])
    assert record(config) == 0
    assert EpisodeStore.open(tmp_path / "one.zarr").n_episodes == 1


FORK = ["task=fork", "expert=scripted"]


def same(one, two):
    """Whether two datasets are the same files."""
    names = [sorted(f.relative_to(p) for f in p.rglob("*") if f.is_file()) for p in (one, two)]
    return names[0] == names[1] and all(
        (one / name).read_bytes() == (two / name).read_bytes() for name in names[0]
    )


@pytest.mark.heavy
def test_a_recording_that_was_interrupted_is_resumed_as_if_it_never_was(
    tmp_path, monkeypatch, capsys
):
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    words = [*FORK, "episodes=3", "drift=0.005"]
    assert main(["record", *words, f"output={whole}"]) == 0
    add, added = EpisodeWriter.add_episode, []

    def fails_after_two(self, *arguments, **named):
        if len(added) == 2:
            raise DataError("the disk is gone")
        add(self, *arguments, **named)
        added.append(0)

    monkeypatch.setattr(EpisodeWriter, "add_episode", fails_after_two)
    assert main(["record", *words, f"output={parts}"]) == 1
    said = capsys.readouterr().err
    assert "2 episodes of" in said
    assert "the same command with resume=true goes on with them" in said
    monkeypatch.setattr(EpisodeWriter, "add_episode", add)
    assert main(["record", *words, f"output={parts}", "resume=true", "seed=7"]) == 1
    assert "recorded with seed=1000000, and now it is seed=7" in capsys.readouterr().err
    assert main(["record", *words, f"output={parts}", "resume=true"]) == 0
    assert "going on behind 2 episodes" in capsys.readouterr().out
    assert same(whole, parts)
    assert main(["record", *words, f"output={parts}", "resume=true"]) == 0
    assert "3 episodes are there already" in capsys.readouterr().out
    assert main(["record", *words, f"output={parts}", "resume=true", "video_episodes=2"]) == 0
    assert "video_episodes=2 films what is recorded: no video" in capsys.readouterr().out


@pytest.mark.heavy
def test_failures_are_kept_on_request_with_success_beside_them(tmp_path, capsys):
    path = tmp_path / "all.zarr"
    words = [*FORK, "episodes=2", "+task.environment.max_steps=12", "minimum=1"]
    assert main(["record", *words, "max_failures=4", f"output={path}"]) == 1
    assert "4 demonstrations in a row failed" in capsys.readouterr().err
    assert not path.exists()
    assert main(["record", *words, "keep=all", f"output={path}"]) == 0
    assert "2 (seeds 1000000, 1000001) failed" in capsys.readouterr().out
    numbers = EpisodeStore.open(path).episode_numbers()
    assert {name: values.tolist() for name, values in numbers.items()} == {
        "seed": [1000000, 1000001],
        "success": [0, 0],
    }


@pytest.mark.heavy
def test_the_first_demonstrations_are_filmed(tmp_path, capsys):
    av = pytest.importorskip("av")
    words = [*FORK, "episodes=2", "video_episodes=2", f"output={tmp_path / 'demos.zarr.zip'}"]
    assert main(["record", *words]) == 0
    with av.open(tmp_path / "demos.mp4") as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    lengths = np.diff(EpisodeStore.open(tmp_path / "demos.zarr.zip").episode_ends, prepend=0)
    assert len(frames) == lengths.max() + 1
    assert frames[-1][2, 2].tolist() == pytest.approx([34, 160, 70], abs=8)  # it succeeded


@pytest.mark.parametrize(
    ("kinds", "targets", "words"),
    [
        (("state",), {}, "dataset=d.zarr"),
        (("state", "text"), {}, "policy/encoder=state_text dataset=d.zarr"),
        (("depth",), {}, "policy=unet_image_small dataset=d.zarr"),
        (
            ("state", "image"),
            {"object": {}},
            "policy=unet_image_small objective=auxiliary dataset=",
        ),
        (("image", "text"), {}, None),
    ],
)
def test_the_line_that_trains_names_a_policy_that_sees_what_was_recorded(kinds, targets, words):
    seen = {kind: {"kind": kind} for kind in kinds}
    config = {"overrides": {}, "task": {"observation": seen, "targets": targets}}
    line = _next_command(config, RecordConfig("d.zarr"))
    assert line is None if words is None else f"dipole train {words}" in line
    by_hand = _next_command(config, RecordConfig("d.zarr", mouse=True))
    assert by_hand == (None if {"image", "depth"} & {*kinds} else line)

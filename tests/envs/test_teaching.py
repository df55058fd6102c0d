"""A teacher labels the frames that another policy reaches: who acts, what is kept, what fits."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError, DataError
from dipole.envs.experts import cluster_seeds as seeds
from dipole.envs.experts.demonstrate import DemonstrationSpec, demonstrations, maker
from dipole.envs.experts.teaching.acting import ActingPolicy, Actors
from dipole.envs.experts.teaching.episodes import TaughtEpisodes
from dipole.envs.experts.teaching.labels import ROWS, Labeller
from dipole.envs.experts.teaching.relabel import labelled
from dipole.envs.experts.teaching.spec import TeachingSpec
from dipole.envs.rollout import RolloutError
from dipole.envs.rollout.cluster.settings import ClusterSettings
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import Checkpoint, policy_config, save_checkpoint
from dipole.policy.execution.executor import Executor

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from acted_ray import ActedRay
from experts import FEATURES, SPEC, Walk, walking
from memory_source import MemorySource, frames


class Counting:
    """Its chunk counts on from the newest x: action k is x + k - (To - 1); the other is noise."""

    features = Features({"x": Feature((1,), source="place", columns=(0,))})
    observed = 0

    def __init__(self, window=None):
        self.window, self.seen = window or WindowSpec(3, 8, 2), []

    def predict(self, observation, generator=None):
        assert len(generator) == len(observation["x"])
        self.seen += observation["x"][..., 0].tolist()
        steps = torch.arange(self.window.horizon) - (self.window.n_obs_steps - 1)
        counted = observation["x"][:, -1] + steps
        noise = torch.stack([torch.randn(self.window.horizon, generator=g) for g in generator])
        return torch.stack([counted, noise], -1)


def episode(count):
    place = np.stack([np.arange(count), np.zeros(count)], 1).astype(np.float32)
    return {"place": place, "action": np.zeros((count, 2), np.float32)}


def test_a_label_is_what_the_teacher_would_do_from_its_frame_on():
    policy = Counting()
    made = Labeller(policy)(episode(5), (), 7)
    assert sorted(made) == ["teacher_chunk"]
    assert made["teacher_chunk"].shape == (5, 6, 2)
    assert made["teacher_chunk"][3, :, 0].tolist() == [3, 4, 5, 6, 7, 8]
    assert policy.seen[:4] == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]  # as the executor sees


def test_some_frames_are_labelled_with_some_actions():
    made = Labeller(Counting(), every=2, length=3)(episode(5), (), 7)
    assert made["teacher_chunk_valid"].tolist() == [True, False, True, False, True]
    assert made["teacher_chunk"][..., 0].tolist() == [
        [0, 1, 2],
        [0] * 3,
        [2, 3, 4],
        [0] * 3,
        [4, 5, 6],
    ]


def test_a_label_is_a_function_of_seed_and_frame():
    long, short = (Labeller(Counting())(episode(n), (), 7) for n in (ROWS + 3, 4))
    np.testing.assert_array_equal(long["teacher_chunk"][:4], short["teacher_chunk"])
    other = Labeller(Counting())(episode(4), (), 8)
    assert (other["teacher_chunk"][..., 1] != short["teacher_chunk"][..., 1]).all()
    sparse = Labeller(Counting(), every=3)(episode(4), (), 7)
    np.testing.assert_array_equal(sparse["teacher_chunk"][3], short["teacher_chunk"][3])


def test_a_teacher_is_told_the_words_of_each_frame():
    policy = Counting()
    policy.features = Features({**policy.features.observation, "told": Feature((4,), kind="text")})
    told = []
    policy.predict = lambda seen, generator: (
        told.append(seen["told"][:4, -1]),
        Counting.predict(policy, seen, generator),
    )[1]
    Labeller(policy)(episode(4), ((0, "go"), (2, "stay")), 7)
    assert [bytes(row.tolist()).rstrip(b"\0").decode() for row in told[0]] == [
        "go",
        "go",
        "stay",
        "stay",
    ]


def test_what_the_teacher_cannot_do_is_said():
    with pytest.raises(ConfigError, match="labels of 7 actions: the teacher's chunks have 6"):
        Labeller(Counting(), length=7)
    with pytest.raises(
        ConfigError, match="the teacher sees 'x', made of 'place', did you mean 'plac'"
    ):
        Labeller(Counting())({"plac": np.zeros((2, 1)), "action": np.zeros((2, 2))}, (), 7)
    lost = episode(3)
    lost["place"][1] = np.nan
    with pytest.raises(DataError, match="frame 1: the teacher's chunk is not finite"):
        Labeller(Counting())(lost, (), 7)


def acting(sign, rows=1):
    """A policy that does `sign`, for 3 steps at a time, upon whatever it sees."""
    window = WindowSpec(1, 3, 3)
    predict = lambda seen, generator: sign * torch.ones(len(seen["x"]), 3, 1)  # noqa: E731
    policy = SimpleNamespace(window=window, predict=predict)
    interface = SimpleNamespace(observe=lambda seen: seen)
    return ActingPolicy(policy, interface, Executor(policy, rows, inference_batch_size=16))


def planned(actors, seeds, chunks=100):
    """Of each row the sign of each chunk, who did it; chunks are whole."""
    for row, seed in enumerate(seeds):
        actors.begin({"x": np.zeros(1)}, seed, row)
    made = [actors.plan(range(len(seeds))) for _ in range(chunks)]
    assert all(len(set(chunk[:, 0])) == 1 for each in made for chunk in each.values())
    return [[float(each[row][0, 0]) for each in made] for row in range(len(seeds))]


def test_the_teacher_acts_for_whole_chunks_as_often_as_is_said():
    actors = Actors(acting(-1, 2), acting(1, 2), 0.3)
    one, other = planned(actors, [5, 6])
    assert 0.2 < (np.array(one) == 1).mean() < 0.4
    assert one != other
    assert planned(actors, [5]) == [one]
    assert set(*planned(Actors(acting(-1), acting(1), 1.0), [5])) == {1}
    assert set(*planned(Actors(acting(-1)), [5])) == {-1}


def save(folder, fps=10.0, environment=None, action=None, window=None, seed=0):
    """A tiny policy for `Walk`, of random weights."""
    features = replace(FEATURES, fps=fps, action=action or FEATURES.action)
    denoiser = {"name": "unet1d", "down_dims": [8, 16], "time_embed_dim": 8}
    torch.manual_seed(seed)
    policy = Policy(PolicyConfig(denoiser=denoiser), features, window or WindowSpec(2, 16, 4))
    config = {**policy_config(policy), "environment": environment}
    save_checkpoint(folder, Checkpoint(config, {"ema": policy.state_dict()}, {}))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    teacher = save(folder / "teacher", environment={"name": "walk"})
    return SimpleNamespace(teacher=teacher, student=save(folder / "student", seed=1), folder=folder)


FEW_STEPS = {"name": "ddim", "steps": 1}


def taught(runs, **more):
    student = more.pop("student") if "student" in more else runs.student
    teaching = TeachingSpec.of(runs.teacher, student, solver=FEW_STEPS, **more)
    spec = replace(SPEC, max_steps=6)
    seen = Features({"goal": FEATURES.observation["goal"]}, FEATURES.action)
    return DemonstrationSpec(spec, None, seen, teaching=teaching)


def test_the_student_acts_and_the_teacher_s_labels_are_recorded_beside_what_it_sees(runs):
    with walking():
        make = maker(taught(runs))
        made, again, alone = make(3), make(3), maker(taught(runs, student=None))(3)
    assert sorted(made.frames) == ["action", "goal", "place", "teacher_chunk"]
    assert made.frames["teacher_chunk"].shape == (6, 15, 3)
    for key, recorded in made.frames.items():
        np.testing.assert_array_equal(recorded, again.frames[key])
    labels = make._labeller(made.frames, (), 3)["teacher_chunk"]
    np.testing.assert_array_equal(labels, made.frames["teacher_chunk"])
    # From the same start the teacher says the same, and does it; noise of the two is another.
    np.testing.assert_array_equal(alone.frames["teacher_chunk"][0], labels[0])
    assert np.abs(made.frames["action"] - alone.frames["action"]).max() > 0.01
    assert make.environment.environment.looks == 2 * len(made)


def same(one, other):
    return one.frames.keys() == other.frames.keys() and all(
        np.array_equal(frames, other.frames[key]) for key, frames in one.frames.items()
    )


def test_what_comes_of_a_seed_does_not_depend_on_what_runs_beside_it(runs):
    spec = taught(runs, teacher_acts=0.5)
    with walking():
        alone = [maker(spec)(seed) for seed in (3, 4, 5, 6)]
        some = list(TaughtEpisodes(spec, 3).made([3, 4, 5, 6]))
    assert [made.seed for made in some] == [3, 4, 5, 6]
    assert all(map(same, some, alone))


def test_an_error_comes_after_the_seeds_before_it(runs, monkeypatch):
    advance = Walk.advance

    def fails_at_4(self, action):
        if self.seed_now == 4:
            raise ZeroDivisionError("4 is no seed")
        return advance(self, action)

    monkeypatch.setattr(Walk, "advance", fails_at_4)
    with walking():
        made = list(TaughtEpisodes(taught(runs), 2).made([3, 4, 5]))
        every = demonstrations(taught(runs), 3, n_envs=2)
        assert next(every).seed == 3
        with pytest.raises(RolloutError, match="seed 4: ZeroDivisionError: 4 is no seed"):
            next(every)
    assert isinstance(made[1], RolloutError)
    assert [len(each) for each in (made[0], made[2])] == [6, 6]


def test_groups_of_episodes_on_a_cluster_are_those_of_one_process(runs, monkeypatch):
    monkeypatch.setattr(seeds, "connected", lambda *_: nullcontext(ActedRay()))
    spec = taught(runs, teacher_acts=0.5)
    with walking():
        here = list(islice(demonstrations(spec, 3, n_envs=3), 3))
        there = list(
            islice(demonstrations(spec, 3, n_envs=2, cluster=ClusterSettings(actors=1)), 3)
        )
    assert [made.seed for made in there] == [3, 4, 5]
    assert all(map(same, here, there))


def test_an_episode_that_is_filmed_is_the_same_and_not_labelled(runs):
    with walking():
        filmed = maker(replace(taught(runs), features=None), render=True)(3)
        made = maker(taught(runs))(3)
    np.testing.assert_array_equal(filmed.frames["action"], made.frames["action"])
    assert "teacher_chunk" not in filmed.frames


def test_a_dataset_is_labelled_without_a_simulator_as_its_recording_was(runs):
    with walking():
        made = [maker(taught(runs, every=2))(seed) for seed in (0, 1)]
    source = MemorySource([each.frames for each in made], fps=10.0)
    teaching = TeachingSpec.of(runs.teacher, every=2, solver=FEW_STEPS)
    again = labelled(source, teaching)
    assert again.info.frames["teacher_chunk"].shape == (15, 3)
    for number, each in enumerate(made):
        for key in ("teacher_chunk", "teacher_chunk_valid", "place"):
            np.testing.assert_array_equal(frames(again, key, number), each.frames[key])
    every = labelled(source, TeachingSpec.of(runs.teacher, solver=FEW_STEPS, length=4))
    assert sorted(every.info.frames) == ["action", "goal", "place", "teacher_chunk"]
    np.testing.assert_array_equal(
        frames(every, "teacher_chunk", 1)[::2], made[1].frames["teacher_chunk"][::2, :4]
    )


def test_a_dataset_that_the_teacher_does_not_fit_is_refused(runs):
    teaching = TeachingSpec.of(runs.teacher)
    action, goal = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
    for fps, episode, said in (
        (20.0, {"action": action, "goal": goal}, "teacher .* trained at 10 actions a second"),
        (10.0, {"action": action[:, :2], "goal": goal}, r"shape \[3\], and the dataset's \[2\]"),
        (10.0, {"action": action, "goal": goal}, "it sees 'place'; the dataset has action, goal"),
    ):
        with pytest.raises(ConfigError, match=said):
            labelled(MemorySource([episode], fps=fps), teaching)
    places = MemorySource([{"action": action, "goal": goal, "place": action}], fps=10.0)
    places.info = replace(places.info, environment={"id": "walk", "actions": "absolute"})
    with pytest.raises(ConfigError, match="its actions are delta, and the dataset's absolute"):
        labelled(places, teaching)
    with pytest.raises(ConfigError, match="its actions are delta, and the task's abs"):
        ActingPolicy.alone(runs.teacher, replace(SPEC, options={"actions": "absolute"}))
    in_px = Feature((3,), kind="action", units="px")
    of_px = TeachingSpec.of(save(runs.folder / "px", action=in_px))
    place = np.zeros((4, 3), np.float32)
    source = MemorySource([{"action": action, "goal": goal, "place": place}], fps=10.0)
    metres = replace(source.info.frames["action"], units="m")
    source.info = replace(source.info, frames={**source.info.frames, "action": metres})
    with pytest.raises(ConfigError, match="are in px, and the dataset's in m"):
        labelled(source, of_px)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"fps": 20.0}, "teacher .* trained at 20 actions a second"),
        ({"environment": {"name": "pusht"}}, "trained in 'pusht', and the task is in 'walk'"),
        (
            {"environment": {"name": "walk", "options": {"actions": "absolute"}}},
            "its actions are absolute, and the task's delta",
        ),
        ({"action": Feature((2,), kind="action")}, r"shape \[2\], and the task's \[3\]"),
        ({"action": Feature((3,), kind="action", units="px")}, "are in px, and the task's in m"),
    ],
)
def test_a_policy_that_does_not_fit_the_task_is_refused(runs, tmp_path, what, said):
    teaching = TeachingSpec.of(save(tmp_path / "other", **what), runs.student)
    with pytest.raises(ConfigError, match=said):
        teaching.check(SPEC, FEATURES, 10.0)


def test_what_cannot_be_taught_is_refused(runs):
    TeachingSpec.of(runs.teacher, runs.student).check(SPEC, FEATURES, 10.0)
    with pytest.raises(ConfigError, match="labels of 16 actions: the teacher's chunks have 15"):
        TeachingSpec.of(runs.teacher, length=16).check(SPEC, FEATURES, 10.0)
    with pytest.raises(ConfigError, match="nobody else does: give student=RUN"):
        TeachingSpec.of(runs.teacher, teacher_acts=0.5)
    with pytest.raises(ConfigError, match="a probability is between 0 and 1"):
        TeachingSpec.of(runs.teacher, runs.student, teacher_acts=1.5)
    wide = SimpleNamespace(teacher=save(runs.folder / "wide", action=Feature((2,), kind="action")))
    with walking(), pytest.raises(ConfigError, match=r"takes actions of shape \[3\]"):
        maker(taught(wide, student=None))


def test_a_student_s_episode_ends_alone_where_the_simulator_or_its_chunk_is_not_finite(
    runs, monkeypatch
):
    spec, observe = taught(runs), Walk.observe
    fifth = torch.tensor(Walk(("goal",)).reset(seed=5)[0]["goal"], dtype=torch.float32)

    def diverges_in_4(self):
        seen = observe(self)
        if self.seed_now == 4 and self.age == 2:
            seen["goal"] = np.full(3, np.inf)
        return seen

    def explodes_in_5(observation, generator):
        chunks = predict(observation, generator=generator)
        chunks[(observation["goal"][:, -1] == fifth).all(1)] = torch.nan
        return chunks

    with walking():
        reference = list(TaughtEpisodes(spec, 3).made([3, 4, 5, 6]))
        monkeypatch.setattr(Walk, "observe", diverges_in_4)
        episodes = TaughtEpisodes(spec, 3)
        student = episodes._actors._policy.policy
        predict = student.predict
        monkeypatch.setattr(student, "predict", explodes_in_5)
        made = list(episodes.made([3, 4, 5, 6]))
    assert [each.broken[:30] for each in made] == [
        "",
        "'goal' is not finite: [inf, in",
        "the acting policy's actions ar",
        "",
    ]
    assert same(made[0], reference[0])
    assert same(made[3], reference[3])
    assert [(len(each), each.success) for each in made[1:3]] == [(0, False)] * 2

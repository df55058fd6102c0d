"""Targets: what is read beside what a policy sees, and what a dataset lacks of it."""

import itertools
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from mixture_fixture import FEATURES, SPEC, parts, write_fast, write_slow

from dipole.data import (
    ConfigError,
    DataError,
    EpisodeStore,
    Feature,
    Mixture,
    MixturePart,
    Windows,
    make_loader,
)
from dipole.data.loading.targets import Target, define_targets, recorded_targets
from dipole.data.loading.task_data import TaskData

FORCE = Target(Feature((1,), source="force"))
LATER = Target(Feature((1,), source="joints", columns=(0,)), ahead=3)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    return write_slow(folder / "slow.zarr"), write_fast(folder / "fast.zarr")


@pytest.fixture
def windows(paths):
    """Episodes of 20 and of 30 frames: 0 to 19, and 23 to 52."""
    return Windows(
        EpisodeStore.open(paths[0]), SPEC, FEATURES, targets={"force": FORCE, "later": LATER}
    )


def of_fast(paths, targets=None):
    fast = parts(*paths)[1]
    own = Windows(
        fast.windows.store, SPEC, fast.windows.features, step=Fraction(5), targets=targets
    )
    return MixturePart(own, fast.weight, fast.name, fast.action_entries)


@pytest.fixture
def mixture(paths, windows):
    """The fast one has no force, and its joints are called qpos."""
    later = Target(Feature((1,), source="qpos", columns=(1,)), ahead=3)
    return Mixture([MixturePart(windows, 0.75, "slow"), of_fast(paths, {"later": later})], FEATURES)


def test_a_target_is_read_for_each_observed_frame(windows):
    batch = windows.gather(np.array([5]))
    assert batch["target"]["force"].tolist() == [[[np.float32(0.04)], [np.float32(0.05)]]]
    assert "force" not in batch["target_is_pad"]


def test_a_later_one_is_that_many_steps_after_the_observed_frame(windows):
    batch = windows.gather(np.array([0, 5, 16]))
    # The first window shows frame 0 twice; the last one frames 15 and 16 of 20.
    assert batch["target"]["later"][..., 0].tolist() == [[3, 3], [7, 8], [18, 19]]
    assert not batch["target_is_pad"]["later"].any()
    far = Target(LATER.feature, ahead=4)
    last = Windows(windows.store, SPEC, FEATURES, targets={"later": far}).gather(np.array([16]))
    assert last["target"]["later"][..., 0].tolist() == [[19, 19]]
    assert last["target_is_pad"]["later"].tolist() == [[False, True]]


def test_steps_are_the_policy_s(paths):
    """Of five frames in data of 50 Hz."""
    later = Target(Feature((1,), source="qpos", columns=(1,)), ahead=3)
    batch = of_fast(paths, {"later": later}).windows.gather(np.array([5]))
    assert batch["target"]["later"][..., 0].tolist() == [[1015, 1020]]


def test_without_targets_nothing_of_them_is_in_a_batch_or_in_memory(paths):
    plain = Windows(EpisodeStore.open(paths[0]), SPEC, FEATURES)
    assert set(plain.gather(np.array([0]))) == {"observation", "action", "action_is_pad"}
    made = make_loader(plain, batch_size=2, seed=0, log=lambda _: None)
    assert made.resident
    assert made._source.targets == {}


@pytest.mark.parametrize("mixed", [False, True])
def test_batches_from_memory_and_from_the_store_are_the_same(windows, mixture, mixed):
    source = mixture if mixed else windows
    found = []
    for limit in (None, 0):
        made = make_loader(
            source, batch_size=9, seed=1, memory_limit_bytes=limit, log=lambda _: None
        )
        assert made.resident == (limit is None)
        with made:
            found.append(list(itertools.islice(made.batches(2), 4)))
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        for key in ("target", "target_is_pad", *(["target_is_missing"] if mixed else [])):
            assert one[key].keys() == other[key].keys()
            assert all(torch.equal(one[key][name], other[key][name]) for name in one[key])


def test_what_a_dataset_of_a_mixture_lacks_is_zero_and_marked(mixture):
    batch = mixture.gather(np.array([5, 44 + 5]))
    assert batch["target_is_missing"]["force"].tolist() == [False, True]
    assert set(batch["target_is_missing"]) == {"force"}
    assert batch["target"]["force"][1].tolist() == [[0], [0]]
    assert batch["target"]["later"][..., 0].tolist() == [[7, 8], [1015, 1020]]


def test_statistics_are_of_the_training_episodes_and_of_all_parts(windows, mixture):
    alone = windows.target_statistics()
    assert (alone["later"].min, alone["later"].max) == (0, 52)
    merged = mixture.target_statistics()
    assert (merged["later"].min, merged["later"].max) == (0, 1199)
    assert merged["force"].max == alone["force"].max


def test_ranges_of_each_part_become_one(paths, windows):
    """normalizer: per_part"""
    later = Target(Feature((1,), source="qpos", columns=(1,)), ahead=3)
    given = [MixturePart(windows, 0.75, "slow"), of_fast(paths, {"later": later})]
    mixture = Mixture(given, FEATURES, "per_part")
    batch = mixture.gather(np.array([0, 44]))["target"]["later"][:, 0, 0]
    # Frame 3 of 0 to 52, and frame 1015 of 1000 to 1199, both in the range 0 to 1199.
    assert batch.tolist() == pytest.approx([3 / 52 * 1199, 15 / 199 * 1199], rel=1e-4)


def test_parts_that_differ_in_a_target_are_refused(paths, windows):
    both = Target(Feature((2,), source="qpos", columns=(1, 2)), ahead=3)
    given = [MixturePart(windows, 0.75, "slow"), of_fast(paths, {"later": both})]
    with pytest.raises(ConfigError, match=r"dataset 'fast', target 'later': state of shape \[2\]"):
        Mixture(given, FEATURES)


def task(slow, fast=None, **entries):
    """Joints and two cameras; with two datasets a mixture."""
    of = {"joints": {"source": "qpos", "columns": [1, 2]}, "front": {"source": "top"}}
    of["wrist"] = None
    mixed = {
        "policy_hz": 10,
        "datasets": {
            "slow": {"path": str(slow)},
            "fast": {
                "path": str(fast),
                "observation": of,
                "action": {"shape": [2], "entries": [0, 2]},
            },
        },
    }
    return {
        "name": "both",
        "observation": {
            "joints": {"shape": [2], "kind": "state"},
            "front": {"shape": [32, 32, 3], "kind": "image"},
            "wrist": {"shape": [32, 32, 3], "kind": "image"},
        },
        "action": {"shape": [3], "kind": "action"},
        "window": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
        "targets": {"touch": {"shape": [1], "source": "force", "units": "N"}},
        **({"dataset": str(slow)} if fast is None else mixed),
        **entries,
    }


def test_a_task_s_targets_are_read_where_they_are_wanted(paths):
    assert dict(TaskData.open(task(paths[0]), None).train.targets) == {}
    data = TaskData.open(task(paths[0]), None, None)
    assert data.train.targets["touch"].feature.source == "force"
    assert data.validation is not None
    assert data.validation.gather(np.array([0]))["target"]["touch"].shape == (1, 2, 1)
    assert data.validation[0]["target"]["touch"].shape == (2, 1)
    assert "target: touch, 1 numbers (N)" in data.summary()


def test_a_target_may_be_an_observation_as_each_dataset_has_it(paths):
    wanted = {"later": {"of": "joints", "ahead": 3}, "touch": {}}
    data = TaskData.open(task(*paths), None, wanted)
    sources = [dict(part.train.targets) for part in data.parts]
    assert [own["later"].feature.source for own in sources] == ["joints", "qpos"]
    assert [list(own) for own in sources] == [["later", "touch"], ["later"]]
    assert "target: touch, 1 numbers (N); not in fast" in data.summary()
    assert "target: later, 2 numbers (units not recorded), 3 steps later" in data.summary()
    one = {"of": "joints", "shape": [1], "columns": [1]}
    data = TaskData.open(task(paths[0]), None, {"elbow": one})
    feature = data.train.targets["elbow"].feature
    assert (feature.source, feature.columns, feature.shape) == ("joints", (1,), (1,))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"front": {}}, r"target 'front': it is of kind image: targets are numbers"),
        ({"tuch": {}}, r"target 'tuch': the task has no .* 'tuch', did you mean 'touch'"),
        ({"joints": {"ahed": 1}}, r"target 'joints' has no 'ahed', did you mean 'ahead'"),
        ({"joints": {"ahead": -1}}, r"target 'joints': ahead is -1"),
        ({"joints": 3}, r"target 'joints' is 3: a table"),
        ({"x": {"shape": [1], "source": "forc"}}, r"no key 'forc' in .*did you mean 'force'"),
        ({"x": {"shape": [2], "source": "force"}}, r"shape \[2\] expected"),
    ],
)
def test_what_cannot_be_a_target_is_named(paths, wanted, message):
    with pytest.raises((ConfigError, DataError), match=message):
        TaskData.open(task(paths[0]), None, wanted)


def test_a_task_without_targets_of_its_own_says_how_to_name_some(paths):
    without = task(paths[0])
    del without["targets"]
    with pytest.raises(ConfigError, match=r"no targets of its own.*targets=\{joints: \{\}\}"):
        define_targets(None, without)


def test_what_targets_are_made_of_is_what_a_recording_needs_beside_the_observations():
    own = {"cube": {"shape": [3], "source": "pose", "columns": [0, 1, 2], "ahead": 4}}
    task = {"observation": {"joints": {"shape": [2]}}, "action": {"shape": [2]}, "targets": own}
    wanted = {"joints": {}, "soon": {"of": "action", "ahead": 2}, "width": {"shape": [1]}}
    found = recorded_targets(task, wanted)
    assert {name: one.source or name for name, one in found.items()} == {
        "cube": "pose",
        "width": "width",
    }
    assert recorded_targets({**task, "targets": None}) == {}
    with pytest.raises(ConfigError, match="target 'cube': it is of kind image"):
        recorded_targets({**task, "targets": {"cube": {"shape": [8, 8, 3], "kind": "image"}}})

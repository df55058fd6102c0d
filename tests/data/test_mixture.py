"""Batches of several datasets: whose rows, which frames, what is missing, and both ways to load."""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from mixture_fixture import FEATURES, SPEC, parts, write_fast, write_slow

from dipole.data import ConfigError, DataError, Feature, Features, Mixture, Windows, make_loader
from dipole.data.loading.mixture.part_mapping import Rescaling
from dipole.data.loading.statistics import Statistics, merged_statistics


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    return write_slow(folder / "slow.zarr"), write_fast(folder / "fast.zarr")


@pytest.fixture
def mixture(paths):
    return Mixture(parts(*paths), FEATURES)


def flat(batch, prefix=""):
    for name, value in batch.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def same(one, other):
    one, other = dict(flat(one)), dict(flat(other))
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def loader(source, **options):
    options = {"batch_size": 12, "seed": 3, "log": lambda _: None, **options}
    return make_loader(source, **options)


def take(made, start, count):
    with made:
        return list(itertools.islice(made.batches(start), count))


def test_windows_of_the_second_dataset_follow_those_of_the_first(mixture):
    slow, fast = mixture.parts
    assert (len(slow), len(fast), len(mixture)) == (44, 170, 214)
    batch = mixture.gather(np.array([0, 44, 213]))
    assert batch["action"][0].tolist() == [
        [frame, frame + 0.25, frame + 0.5] for frame in (0, 0, 1, 2, 3, 4, 5, 6)
    ]
    assert batch["action"][1, :, 0].tolist() == [
        1000, 1000, 1005, 1010, 1015, 1020, 1025, 1030,
    ]  # fmt: skip
    assert batch["observation"]["joints"][1].tolist() == [[1000, -1000], [1000, -1000]]
    assert batch["observation"]["joints"][2].tolist() == [[1179, -1179], [1184, -1184]]


def test_what_a_dataset_lacks_is_zero_and_marked(mixture):
    batch = mixture.gather(np.array([52, 3, 45]))
    missing = batch["observation_is_missing"]
    assert {name: mask.tolist() for name, mask in missing.items()} == {
        "wrist": [True, False, True],
        "force": [True, False, True],
    }
    assert batch["action_is_missing"].tolist() == [
        [False, True, False],
        [False, False, False],
        [False, True, False],
    ]
    assert not batch["observation"]["wrist"][[0, 2]].any()
    assert batch["observation"]["wrist"][1, 0, 0, 0].tolist() == [22, 22, 22]
    assert not batch["action"][0, :, 1].any()
    assert batch["action"][0, 1].tolist() == [1008, 0, 1008.5]


def test_datasets_that_lack_nothing_have_no_masks(paths):
    slow = parts(*paths)[0]
    mixture = Mixture([slow, replace(slow, name="again")], FEATURES)
    assert set(mixture.gather(np.array([0, 50]))) == {"observation", "action", "action_is_pad"}


def test_a_mixture_of_one_gives_the_batches_of_its_dataset(paths):
    slow = parts(*paths)[0]
    ours, theirs = take(loader(Mixture([slow], FEATURES)), 2, 3), take(loader(slow.windows), 2, 3)
    assert [same(*pair) for pair in zip(ours, theirs, strict=True)] == [True] * 3


@pytest.mark.parametrize("normalizer", ["merged", "per_part"])
@pytest.mark.parametrize("start", [0, 100_000])
def test_resident_and_streaming_batches_are_identical(paths, normalizer, start):
    mixture = Mixture(parts(*paths), FEATURES, normalizer)
    resident, streaming = loader(mixture), loader(mixture, memory_limit_bytes=0)
    assert (resident.resident, streaming.resident) == (True, False)
    pairs = zip(take(resident, start, 5), take(streaming, start, 5), strict=True)
    assert [same(*pair) for pair in pairs] == [True] * 5


def test_background_workers_give_the_same_batches(mixture):
    expected = take(loader(mixture), 4, 4)
    given = take(loader(mixture, memory_limit_bytes=0, workers=2), 4, 4)
    assert [same(*pair) for pair in zip(given, expected, strict=True)] == [True] * 4


@pytest.mark.parametrize("limit", [None, 0])
def test_ranks_together_load_the_batch_of_one(mixture, limit):
    whole = dict(flat(take(loader(mixture, memory_limit_bytes=limit), 7, 1)[0]))
    for rank in range(3):
        made = loader(mixture, memory_limit_bytes=limit, rank=rank, ranks=3)
        part = dict(flat(take(made, 7, 1)[0]))
        assert all(torch.equal(part[key], whole[key][rank::3]) for key in whole)


def test_the_share_of_each_dataset_is_exact(mixture):
    batches = take(loader(mixture, batch_size=10), 0, 100)
    fast = torch.cat([batch["observation_is_missing"]["wrist"] for batch in batches])
    assert int(fast.sum()) == 250


def test_held_out_windows_may_lack_a_camera_altogether(paths):
    """Only the second dataset holds episodes out, and it has no wrist camera and no force."""
    held_out = Mixture(parts(*paths), FEATURES).with_windows([None, parts(*paths)[1].windows])
    resident, streaming = (take(loader(held_out, memory_limit_bytes=n), 0, 2) for n in (None, 0))
    assert [same(*pair) for pair in zip(resident, streaming, strict=True)] == [True] * 2
    assert resident[0]["observation"]["wrist"].shape[2:] == (32, 32, 3)
    assert resident[0]["observation_is_missing"]["wrist"].all()


def test_a_batch_may_lack_a_dataset(paths):
    mixture = Mixture(parts(*paths, weights=(99, 1)), FEATURES)
    for limit in (None, 0):
        batches = take(loader(mixture, memory_limit_bytes=limit, batch_size=4), 0, 25)
        rows = [int(batch["observation_is_missing"]["force"].sum()) for batch in batches]
        assert sum(rows) == 1
        assert {tuple(batch["observation"]["force"].shape) for batch in batches} == {(4, 2, 1)}


def test_resident_memory_holds_each_datasets_own_features(mixture):
    made = loader(mixture)
    shapes = {name: tuple(one.frames.shape) for name, one in made._source.features.items()}
    assert shapes == {  # the slow one's episode of 3 frames has no window
        "joints": (50 + 200, 2),
        "front": (50 + 200, 32, 32, 3),
        "wrist": (50 + 1, 32, 32, 3),  # and one of zeros
        "force": (50 + 1, 1),
        "action": (50 + 200, 3),
    }


def test_statistics_are_merged_over_the_datasets_that_have_a_number(mixture):
    found = mixture.statistics()
    assert set(found) == {"joints", "force", "action"}
    assert (found["joints"].min.tolist(), found["joints"].max.tolist()) == ([0, -1199], [1199, 0])
    assert found["force"].max.tolist() == pytest.approx([0.52])
    assert found["action"].max.tolist() == [1199, 52.25, 1199.5]
    own = [part.windows.statistics()["joints"].mean[0] for part in mixture.given]
    assert found["joints"].mean[0] == pytest.approx(0.75 * own[0] + 0.25 * own[1])


def test_merged_moments_are_those_of_the_frames_drawn_by_weight():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (400, 2)), rng.normal(5, 3, (400, 2))
    merged = merged_statistics([Statistics.of(one), Statistics.of(other)], [3, 1])
    drawn = Statistics.of(np.concatenate([one, one, one, other]))
    assert merged.mean == pytest.approx(drawn.mean)
    assert merged.std == pytest.approx(drawn.std, rel=2e-3)
    assert merged.q01 == pytest.approx(np.minimum(*(np.quantile(a, 0.01, 0) for a in (one, other))))


def test_each_datasets_range_goes_to_the_merged_one(paths):
    given = parts(*paths)
    mixture = Mixture(given, FEATURES, "per_part")
    batch = mixture.gather(np.arange(len(mixture)))
    joints, missing = batch["observation"]["joints"], batch["action_is_missing"][:, 1]
    for rows in (missing, ~missing):
        assert joints[rows][..., 0].min() == pytest.approx(0, abs=1e-3)
        assert joints[rows][..., 0].max() > 0.9 * 1199
    assert mixture.rescaling_dict(1)["action"]["scale"][1] == 1
    scale = np.float32(mixture.rescaling_dict(1)["action"]["scale"][0])
    assert scale == pytest.approx(1199 / 199, rel=1e-6)


def test_a_number_that_stands_still_in_one_dataset_goes_to_the_middle(tmp_path, paths):
    from dipole.data.loading.mixture.part_mapping import rescaling

    still, moving = Statistics.of(np.full((3, 1), 7.0)), Statistics.of(np.array([[-1.0], [3.0]]))
    found = rescaling("limits", still, moving)
    assert found(np.full((2, 1), 7, np.float32)).tolist() == [[1], [1]]
    assert found.scale.tolist() == [1]
    assert rescaling("identity", still, moving) is None


def test_what_rarely_moves_goes_by_its_limits_as_a_normaliser_has_it():
    """A gripper that opens in one frame of 500, in metres and in millimetres."""
    from dipole.data.loading.mixture.part_mapping import rescaling

    metres = np.zeros((1000, 1))
    metres[::500] = 1
    one, other = Statistics.of(metres), Statistics.of(1000 * metres)
    merged = merged_statistics([one, other], [1, 1])
    assert rescaling("quantiles", one, merged)(np.float32([[0], [1]])).tolist() == [[0], [1000]]
    assert rescaling("quantiles", other, merged)(np.float32([[1000]])).tolist() == [[1000]]


def test_a_range_holds_what_rarely_moves_in_one_dataset():
    rare, often = np.zeros((1000, 1)), np.linspace(0, 1, 1000)[:, None]
    rare[::500] = 100
    merged = merged_statistics([Statistics.of(rare), Statistics.of(often)], [1, 1])
    assert merged.q01 == pytest.approx(0)
    assert merged.q99 == pytest.approx(100)


def test_a_small_deviation_is_constant_only_where_the_range_is():
    from dipole.data.loading.mixture.part_mapping import rescaling

    small = np.zeros((1000, 1))
    small[0] = 2e-4
    found = rescaling("gaussian", Statistics.of(small), Statistics.of(10 * small))
    assert found.scale == pytest.approx(10)


def test_rescalings_are_read_as_they_are_written():
    one = Rescaling(np.array([2, 1], np.float32), np.array([0.1, -3], np.float32))
    again = Rescaling.from_dict(one.to_dict())
    assert again.scale.tolist() == one.scale.tolist()
    assert again.offset.tolist() == one.offset.tolist()
    with pytest.raises(ValueError, match="scale"):
        Rescaling.from_dict({"scale": [1]})


def test_held_out_windows_are_mixed_as_those_of_training(paths):
    given = parts(*paths)
    mixture = Mixture(given, FEATURES, "per_part")
    held_out = mixture.with_windows([None, given[1].windows])
    assert len(held_out) == 170
    ours, theirs = held_out.gather(np.array([5])), mixture.gather(np.array([44 + 5]))
    assert ours["action"].tolist() == theirs["action"].tolist()
    assert ours["observation_is_missing"]["wrist"].tolist() == [True]
    assert mixture.with_windows([None, None]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "slow"}, "two datasets are called 'slow'"),
        ({"action_entries": (0, 3)}, r"dataset 'fast', action: 2 numbers to entries \[0, 3\]"),
        ({"action_entries": (1, 1)}, r"to entries \[1, 1\] of the policy's 3"),
        ({"action_entries": (0,)}, r"to entries \[0\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(paths, change, message):
    slow, fast = parts(*paths)
    with pytest.raises(ConfigError, match=message):
        Mixture([slow, replace(fast, **change)], FEATURES)


def test_what_no_dataset_has_is_refused(paths):
    slow, fast = parts(*paths)
    with pytest.raises(ConfigError, match="observation 'wrist': no dataset of the mixture has it"):
        Mixture([fast], FEATURES)
    observation = {name: FEATURES.observation[name] for name in ("joints", "front")}
    with pytest.raises(ConfigError, match="action number 1: no dataset"):
        Mixture([fast], replace(FEATURES, observation=observation))
    with pytest.raises(ConfigError, match="has no observation 'wrist'"):
        Mixture([slow], replace(FEATURES, observation=observation))


def test_units_must_be_the_same_where_ranges_are_shared(paths):
    slow, fast = parts(*paths)
    observation = {**FEATURES.observation, "joints": Feature((2,), units="deg")}
    features = replace(FEATURES, observation=observation)
    own = fast.windows.features
    joints = replace(own.observation["joints"], units="rad")
    own = replace(own, observation={**own.observation, "joints": joints})
    windows = Windows(fast.windows.store, SPEC, own, step=fast.windows.step)
    given = [slow, replace(fast, windows=windows)]
    with pytest.raises(ConfigError, match="is in rad, but the policy's is in deg"):
        Mixture(given, features)
    assert len(Mixture(given, features, "per_part")) == 214


def test_a_dataset_without_windows_is_refused(paths):
    slow, fast = parts(*paths)
    short = Windows(slow.windows.store, SPEC, FEATURES, episodes=[1])
    mixture = Mixture([replace(slow, windows=short), fast], FEATURES)
    with pytest.raises(DataError, match=r"slow\.zarr: no windows"):
        loader(mixture)


def test_an_index_without_a_window_is_refused(mixture):
    with pytest.raises(IndexError, match="of 214"):
        mixture.gather(np.array([0, 214]))


def test_features_of_another_shape_are_refused(paths):
    slow, fast = parts(*paths)
    observation = {**FEATURES.observation, "joints": Feature((3,))}
    with pytest.raises(ConfigError, match=r"'slow', observation 'joints': state of shape \[2\]"):
        Mixture([slow, fast], Features(observation, FEATURES.action))


def test_the_python_example_of_the_page_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs/mixtures.md").read_text()
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(page.split("```python\n")[1].split("```")[0], found)  # our own page
    assert found["batch"]["action"].shape == (64, 16, 7)

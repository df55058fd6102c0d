"""Windows whose actions are chunks that are stored at their current frames."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from dipole.data import (
    ConfigError,
    DataError,
    EpisodeStore,
    EpisodeWriter,
    Feature,
    Features,
    Mixture,
    MixturePart,
    Windows,
    WindowSpec,
    make_loader,
)
from dipole.data.loading.task_data import TaskData

SPEC = WindowSpec(n_obs_steps=2, horizon=4, n_action_steps=2)
ACTION = Feature((1,), kind="action", source="teacher_chunk", chunks=True)
FEATURES = Features({"state": Feature((1,))}, ACTION)


def write(path, lengths=(3, 5), every=1, horizon=4):
    """Actions 0, 1, 2, ...; the chunk of frame t is 100 t + (0, 1, ...), without one -1."""
    first = 0
    with EpisodeWriter(path, fps=10) as writer:
        for length in lengths:
            frame = np.arange(first, first + length, dtype=np.float32)
            chunk = 100 * frame[:, None, None] + np.arange(horizon, dtype=np.float32)[:, None]
            valid = np.arange(length) % every == 0
            episode = {"state": frame[:, None], "action": frame[:, None]}
            episode["teacher_chunk"] = np.where(valid[:, None, None], chunk, -1)
            if every > 1:
                episode["teacher_chunk_valid"] = valid
            writer.add_episode(episode)
            first += length
    return path


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Written once: to be safe on the disk takes longest."""
    folder = tmp_path_factory.mktemp("datasets")
    return {
        "labelled": write(folder / "labelled.zarr", horizon=5),
        "sparse": write(folder / "sparse.zarr", every=2),
        "short": write(folder / "short.zarr", horizon=2),
    }


@pytest.fixture
def labelled(datasets):
    return datasets["labelled"]


@pytest.fixture
def sparse(datasets):
    return datasets["sparse"]


def windows(path, features=FEATURES, spec=SPEC, **options):
    return Windows(EpisodeStore.open(path), spec, features, **options)


def test_a_window_shows_what_was_done_and_then_its_current_frame_s_chunk(labelled):
    given = windows(labelled)
    assert len(given) == 8  # every frame, up to the episode's last
    batch = given.gather(np.array([0, 2, 3, 7]))
    assert batch["observation"]["state"][..., 0].tolist() == [[0, 0], [1, 2], [3, 3], [6, 7]]
    assert batch["action"][..., 0].tolist() == [
        [0, 0, 1, 2],
        [1, 200, 201, 202],
        [3, 300, 301, 302],
        [6, 700, 701, 702],
    ]
    assert batch["action_is_pad"][:, 0].tolist() == [True, False, True, False]
    assert not batch["action_is_pad"][:, 1:].any()


def test_only_labelled_frames_are_current_ones(sparse):
    given = windows(sparse)
    batch = given.gather(np.arange(len(given)))
    assert batch["observation"]["state"][:, 1, 0].tolist() == [0, 2, 3, 5, 7]
    assert batch["action"][:, 1, 0].tolist() == [0, 200, 300, 500, 700]
    chosen = windows(sparse, episodes=[1])
    assert chosen.gather(np.arange(3))["action"][:, 1, 0].tolist() == [300, 500, 700]


def test_statistics_are_of_what_windows_show(sparse):
    found = windows(sparse).statistics()["action"]
    assert (found.min.tolist(), found.max.tolist()) == ([0], [702])  # no -1 of frames without one


def test_one_observed_frame_has_no_action_before_the_chunk(labelled):
    given = windows(labelled, spec=WindowSpec(1, 4, 2))
    assert given.gather(np.array([1]))["action"][0, :, 0].tolist() == [100, 101, 102, 103]


def test_at_a_lower_rate_the_steps_of_a_chunk_are_as_far_apart_as_frames(labelled):
    given = windows(labelled, step=Fraction(2))
    assert given.gather(np.array([2]))["action"][0, :, 0].tolist() == [0, 200, 202, 204]


@pytest.mark.parametrize("name", ["labelled", "sparse"])
def test_resident_and_streaming_batches_are_identical(datasets, name):
    given = windows(datasets[name])
    for limit in (0, None):
        loader = make_loader(
            given, batch_size=4, seed=3, memory_limit_bytes=limit, log=lambda _: None
        )
        with loader:
            batch = next(loader.batches(5))
        if limit == 0:
            streamed = batch
    assert torch.equal(batch["action"], streamed["action"])
    assert torch.equal(batch["action_is_pad"], streamed["action_is_pad"])


@pytest.mark.parametrize("limit", [0, None])
def test_demonstrations_and_labelled_recordings_are_mixed(labelled, limit):
    plain = Features({"state": Feature((1,))}, Feature((1,), kind="action"))
    mixture = Mixture(
        [
            MixturePart(windows(labelled), 0.5, "labelled"),
            MixturePart(windows(labelled, plain), 0.5, "shown"),
        ],
        plain,
    )
    assert mixture.statistics()["action"].max.tolist() == [702]
    with make_loader(
        mixture, batch_size=4, seed=0, memory_limit_bytes=limit, log=lambda _: None
    ) as loader:
        batch = next(loader.batches())
    is_chunk = batch["action"][:, 1, 0] == 100 * batch["observation"]["state"][:, 1, 0]
    is_chunk &= batch["action"][:, 2, 0] == batch["action"][:, 1, 0] + 1
    assert 2 <= int(is_chunk.sum()) <= 3  # frame 0's are alike
    assert (
        batch["action"][~is_chunk][:, 1] == batch["observation"]["state"][~is_chunk][:, 1]
    ).all()


def test_parts_with_ranges_of_their_own_rescale_chunks_too(labelled):
    plain = Features({"state": Feature((1,))}, Feature((1,), kind="action"))
    parts = [
        MixturePart(windows(labelled), 0.5, "labelled"),
        MixturePart(windows(labelled, plain), 0.5, "shown"),
    ]
    mixture = Mixture(parts, plain, "per_part")
    assert mixture.gather(np.arange(len(mixture)))["action"].max() == pytest.approx(702)
    assert mixture.gather(np.arange(8, len(mixture)))["action"].max() == pytest.approx(702)


def test_a_task_s_part_may_hold_chunks(labelled):
    own = {"source": "teacher_chunk", "chunks": True}
    task = {
        "observation": {"state": {"shape": [1]}},
        "action": {"shape": [1]},
        "window": {"n_obs_steps": 2, "horizon": 4, "n_action_steps": 2},
        "datasets": {
            "labelled": {"path": str(labelled), "action": own},
            "shown": {"path": str(labelled)},
        },
    }
    data = TaskData.open(task, None)
    assert [part.n_with_windows for part in data.parts] == [2, 2]
    assert data.features.action.chunks is False
    assert Features.from_dict(FEATURES.to_dict()).action.chunks is True
    assert "chunks" not in data.features.to_dict()["action"]


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("short", SPEC, "have 2 actions, and a window needs 3 .* horizon by 1"),
        ("sparse", WindowSpec(2, 6, 2), "have 4 actions, and a window needs 5"),
    ],
)
def test_a_chunk_that_is_too_short_says_by_how_much(datasets, name, spec, said):
    with pytest.raises(DataError, match=said):
        windows(datasets[name], spec=spec)


def test_what_holds_no_chunks_is_refused(labelled):
    single = Features({"state": Feature((1,))}, Feature((1,), "action", "state", chunks=True))
    with pytest.raises(DataError, match="chunks, \\[H, A\\] at each frame, are needed"):
        windows(labelled, single)
    wide = Features({"state": Feature((1,))}, Feature((2,), "action", "teacher_chunk", chunks=True))
    with pytest.raises(DataError, match="shape \\[2\\] expected"):
        windows(labelled, wide)
    for values in (
        {"shape": [1], "kind": "action", "chunks": True},
        {"shape": [1], "kind": "state", "source": "teacher_chunk", "chunks": True},
    ):
        with pytest.raises(ConfigError, match="they are for an action"):
            Feature.from_dict(values)

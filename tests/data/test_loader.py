"""Both ways of loading give the same batches, for any workers and any start."""

import itertools
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from dipole.data import (
    ConfigError,
    DataError,
    EpisodeStore,
    Windows,
    WindowSpec,
    make_loader,
)
from dipole.data.core.memory import free_memory

LENGTHS = [9, 14, 3, 11]


def flat(batch):
    observation = {f"observation.{name}": value for name, value in batch["observation"].items()}
    return {**observation, "action": batch["action"], "action_is_pad": batch["action_is_pad"]}


def same(one, other):
    one, other = flat(one), flat(other)
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def take(loader, start, count):
    with loader:
        return list(itertools.islice(loader.batches(start), count))


@pytest.fixture
def windows(store):
    return Windows(store(LENGTHS), WindowSpec(2, 8, 4))


def loader_of(windows, batch_size=7, seed=3, **options):
    return make_loader(windows, batch_size=batch_size, seed=seed, log=lambda _: None, **options)


def streaming(windows, **options):
    return loader_of(windows, memory_limit_bytes=0, **options)


@pytest.mark.parametrize("start", [0, 5, 1_000_000])
def test_resident_and_streaming_batches_are_identical(windows, start):
    resident, streamed = loader_of(windows), streaming(windows)
    assert (resident.resident, streamed.resident) == (True, False)
    for one, other in zip(take(resident, start, 6), take(streamed, start, 6), strict=True):
        assert same(one, other)


def test_background_workers_give_the_same_batches_in_order(windows):
    expected = take(loader_of(windows), 4, 8)
    random_numbers = torch.get_rng_state()
    given = take(streaming(windows, workers=2), 4, 8)
    assert torch.equal(torch.get_rng_state(), random_numbers)  # resuming restores torch's
    assert [same(*pair) for pair in zip(given, expected, strict=True)] == [True] * 8
    assert multiprocessing.active_children() == []  # closing ended them


@pytest.mark.parametrize("limit", [None, 0])
def test_batch_n_is_the_same_wherever_one_starts(windows, limit):
    loader = loader_of(windows, memory_limit_bytes=limit)
    from_zero = take(loader, 0, 9)
    assert all(same(*p) for p in zip(from_zero[5:], take(loader, 5, 4), strict=True))


def test_batches_are_the_windows_that_the_plan_names(windows):
    batch = take(loader_of(windows, batch_size=4, seed=1), 2, 1)[0]
    order = np.concatenate(
        [np.random.default_rng([1, e]).permutation(len(windows)) for e in range(3)]
    )
    expected = windows.gather(order[8:12])
    assert np.array_equal(batch["action"].numpy(), expected["action"])
    assert np.array_equal(batch["observation"]["camera"].numpy(), expected["observation"]["camera"])


def test_a_resident_loader_of_some_episodes_holds_only_their_frames(store):
    windows = Windows(store(LENGTHS), WindowSpec(2, 8, 4), episodes=[3, 0])
    loader = loader_of(windows)
    assert loader._source.features["action"].frames.shape == (20, 2)
    assert all(
        same(*p) for p in zip(take(loader, 0, 5), take(streaming(windows), 0, 5), strict=True)
    )


def test_types_and_shapes_of_a_batch(windows):
    batch = take(loader_of(windows), 0, 1)[0]
    assert {key: (value.dtype, tuple(value.shape)) for key, value in flat(batch).items()} == {
        "observation.state": (torch.float32, (7, 2, 3)),
        "observation.camera": (torch.uint8, (7, 2, 4, 4, 3)),
        "action": (torch.float32, (7, 8, 2)),
        "action_is_pad": (torch.bool, (7, 8)),
    }


def test_a_batch_may_be_larger_than_an_epoch(windows):
    batch = take(loader_of(windows, batch_size=len(windows) + 5), 0, 1)[0]
    assert len(batch["action"]) == len(windows) + 5


def test_starting_batches_does_not_move_torchs_random_numbers(windows):
    before = torch.get_rng_state()
    take(loader_of(windows), 0, 2)
    take(streaming(windows), 0, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_streaming_reads_only_the_frames_a_batch_needs(write_v2, monkeypatch):
    store = EpisodeStore.open(write_v2([400], chunk_frames=4))
    windows = Windows(store, WindowSpec(2, 8, 4))
    decoded = {}
    for key in store.keys():  # noqa: SIM118
        array = store[key]
        spy = decoded.setdefault(key, [])
        decode = array._decode
        monkeypatch.setattr(
            array, "_decode", lambda a, b, d=decode, s=spy: s.append((a, b)) or d(a, b)
        )
    loader = streaming(windows, batch_size=3)
    batch = take(loader, 0, 1)[0]
    observed = {int(f) // 4 for f in batch["observation"]["state"][..., 0].flatten()}
    acted = {int(f) // 4 for f in batch["action"][..., 0].flatten()}
    assert decoded["camera"] == [(4 * c, 4 * c + 4) for c in sorted(observed)]
    assert decoded["action"] == [(4 * c, 4 * c + 4) for c in sorted(acted)]


def test_decoded_chunks_are_remembered_up_to_a_number_of_bytes():
    from dipole.data.store.zarr_array import ChunkCache

    cache = ChunkCache(limit_bytes=1000)
    for block in range(100):
        cache.put(("a", block), np.zeros(50))
        assert sum(array.nbytes for array in cache._blocks.values()) <= 1000
    cache.put(("a", 100), np.zeros(1000))
    assert cache.get(("a", 99)) is not None
    assert cache.get(("a", 90)) is None
    assert cache.get(("a", 100)) is None


def test_the_choice_and_its_reason_are_said(windows):
    said = []
    loader = make_loader(windows, batch_size=4, seed=0, log=said.append)
    assert said == [f"data: {loader.description}"]
    assert loader.description.startswith("resident: 2.258 KiB of frames, ")
    loader = streaming(windows, workers=2)
    assert loader.description == (
        "streaming with 2 background workers: 2.258 KiB of frames, 0 bytes allowed on cpu"
    )


def test_the_limit_decides(windows):
    # The episode of 3 frames is too short for a window.
    frames = (9 + 14 + 11) * (3 * 4 + 2 * 4 + 4 * 4 * 3)
    assert loader_of(windows, memory_limit_bytes=frames).resident
    assert not loader_of(windows, memory_limit_bytes=frames - 1).resident


def test_ranks_share_the_memory(windows):
    frames = (9 + 14 + 11) * (3 * 4 + 2 * 4 + 4 * 4 * 3)
    assert loader_of(windows, memory_limit_bytes=2 * frames, rank=1, ranks=2).resident
    assert not loader_of(windows, memory_limit_bytes=2 * frames - 1, rank=0, ranks=2).resident


def test_ranks_together_load_the_batch_of_one(windows):
    whole = take(loader_of(windows), 5, 1)[0]
    parts = [take(loader_of(windows, rank=r, ranks=2), 5, 1)[0] for r in (0, 1)]
    assert torch.equal(parts[0]["action"], whole["action"][0::2])
    assert torch.equal(parts[1]["action"], whole["action"][1::2])


def test_epochs_are_counted_in_windows(windows):
    loader = loader_of(windows, batch_size=4)
    assert loader.epoch(0) == 0
    assert loader.epoch(len(windows)) == 4


def test_too_few_windows_are_refused_before_training(store):
    with pytest.raises(DataError, match=r"longest of 2 chosen episodes has 5 frames.* need 8"):
        loader_of(Windows(store([5, 4]), WindowSpec(2, 16, 8)))


@pytest.mark.parametrize("values", [{"batch_size": 0}, {"workers": -1}, {"seed": -1}])
def test_numbers_that_cannot_work_are_refused(windows, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        loader_of(windows, **values)


def test_batches_count_from_zero(windows):
    with pytest.raises(ConfigError, match="-1"):
        loader_of(windows).batches(-1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_chunk_is_an_error_in_the_training_process(write_v2, workers):
    path = write_v2([40])
    (path / "data/state/2.0").unlink()
    loader = streaming(Windows(EpisodeStore.open(path), WindowSpec(2, 8, 4)), workers=workers)
    with loader, pytest.raises(DataError, match=r"^[^\n]*array 'state', frames 16 to 23[^\n]*$"):
        list(itertools.islice(loader.batches(0), 20))
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_an_error_and_not_a_hang(windows):
    loader = streaming(windows, workers=2)
    batches = loader.batches(0)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with loader, pytest.raises(DataError, match="a loading worker died"):
        list(itertools.islice(batches, 100))
    assert multiprocessing.active_children() == []


def test_after_a_death_nothing_more_is_asked_of_the_other_workers(windows, monkeypatch):
    """Death interrupts a handshake with any worker, which then waits for its end for ever."""
    asked = []

    class Loading:
        def __init__(self, *_, **__):
            pass

        def __iter__(self):
            return self

        def __next__(self):
            asked.append(len(asked))
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(torch.utils.data, "DataLoader", Loading)
    with pytest.raises(DataError, match="a loading worker died"):
        next(streaming(windows, workers=2).batches(0))
    assert asked == [0]


def test_half_of_the_free_memory_is_the_default_limit():
    from dipole.data.core.memory import resident_limit

    limit, free = resident_limit(torch.device("cpu")), free_memory()
    assert 0 < limit < free
    assert limit == pytest.approx(free / 2, rel=0.2)  # others allocate meanwhile

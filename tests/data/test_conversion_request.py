"""A conversion as it is asked for: its operations in order, its progress, what makes it another."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dipole.data import ConfigError, DataError, EpisodeStore, EpisodeWriter
from dipole.data.convert import ConversionReport, conversion_identity, convert, run
from dipole.data.sources.combine.concatenated import concatenated
from dipole.data.sources.combine.joined import joined
from dipole.data.sources.combine.metadata import with_missing_metadata
from dipole.data.sources.combine.renamed import renamed
from dipole.data.sources.combine.retyped import retyped
from dipole.data.sources.source import EpisodeRef
from dipole.data.sources.words import ConversionRequest, open_request

sys.path.insert(0, str(Path(__file__).parent))
from memory_source import MemorySource, pair


def write(path, lengths=(3, 2)):
    with EpisodeWriter(path, fps=10) as writer:
        for length in lengths:
            arrays = {key: np.full((length, 2), length) for key in ("obs.a", "cmd.l", "cmd.r")}
            writer.add_episode({**arrays, "action": np.zeros((length, 1))}, task="")
    return path


def test_a_request_renames_concatenates_and_names_the_task(tmp_path):
    request = ConversionRequest(
        write(tmp_path / "a.zarr"),
        tmp_path / "b.zarr",
        rename={"action": "old_action", "obs.a": "state"},
        concatenate={"action": ("cmd.l", "cmd.r")},
        dtype={"state": "float64"},
        keys=("state", "action"),
        task="push it",
    )
    report = run(request)
    store = EpisodeStore.open(tmp_path / "b.zarr")
    assert store.keys() == ["action", "state"]
    assert store["action"][0].tolist() == [3, 3, 3, 3]
    assert store["state"].dtype == np.float64
    assert store.tasks == ["push it", "push it"]
    assert report == ConversionReport(
        tmp_path / "b.zarr", "episode store", ("action", "state"), 2, 5, {}, ()
    )


def test_float_pictures_are_uint8_before_they_are_resampled(tmp_path):
    with EpisodeWriter(tmp_path / "a.zarr", fps=10, features={"img": {"kind": "state"}}) as writer:
        img = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3)).astype(np.float32)
        writer.add_episode({"img": img, "action": np.arange(9.0)[:, None]})
    run(ConversionRequest(tmp_path / "a.zarr", tmp_path / "b.zarr", resample=5))
    store = EpisodeStore.open(tmp_path / "b.zarr")
    assert np.array_equal(store["img"][:], img[::2])
    assert store["action"][:, 0].tolist() == [0, 2, 4, 6, 8]


def test_datasets_of_two_rates_are_joined_at_a_third(tmp_path):
    for name, fps, n in (("a", 10, 11), ("b", 20, 21)):
        with EpisodeWriter(tmp_path / f"{name}.zarr", fps=fps) as writer:
            writer.add_episode({"action": np.arange(n)[:, None] / fps})
    both = (tmp_path / "a.zarr", tmp_path / "b.zarr")
    with pytest.raises(DataError, match="20 frames a second"):
        run(ConversionRequest(both[0], tmp_path / "c.zarr", also=both[1:]))
    run(ConversionRequest(both[0], tmp_path / "c.zarr", also=both[1:], resample=5))
    store = EpisodeStore.open(tmp_path / "c.zarr")
    assert store["action"][:, 0] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0] * 2)


def test_a_key_to_rename_that_is_not_there_is_an_error_also_where_it_is_not_taken(tmp_path):
    request = ConversionRequest(
        write(tmp_path / "a.zarr"), tmp_path / "b.zarr", rename={"obs.b": "x"}, keys=("action",)
    )
    with pytest.raises(ConfigError, match=r"no key 'obs.b', did you mean 'obs.a'"):
        open_request(request)


def test_every_operation_makes_another_request_of_an_unfinished_conversion():
    source = MemorySource([pair()])
    others = [
        renamed(source, {"state": "s"}),
        with_missing_metadata(source, task="go"),
        joined([source, source]),
        retyped(source, {"state": "float32"}),
        concatenated(source, {"both": ("state", "action")}),
    ]
    known = [str(conversion_identity(other)) for other in (source, *others)]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("known", [True, False])
def test_progress_never_runs_back_and_ends_at_all(tmp_path, known):
    source = MemorySource([pair(n) for n in (3, 5, 2, 7)])
    if not known:
        refs = [EpisodeRef(ref.id) for ref in source.episodes()]
        source.episodes = lambda: refs
    reported = []
    convert(source, tmp_path / "a.zarr", progress=lambda *what: reported.append(what))
    shares = [done / total for done, total, _ in reported]
    assert max(shares) == shares[-1] == 1
    assert all(0 <= share <= 1 for share in shares)
    if known:
        assert shares == sorted(shares)
        assert {total for _, total, what in reported if what.startswith("episode")} == {34}


def test_a_group_is_taken_of_all_joined_datasets(tmp_path):
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            for number in range(3):
                file[f"data/demo_{number}/actions"] = np.full((2, 1), number + 10 * (name == "b"))
            file["mask/train"] = np.array([b"demo_0", b"demo_2"])
    request = ConversionRequest(
        tmp_path / "a.hdf5",
        tmp_path / "c.zarr",
        also=(tmp_path / "b.hdf5",),
        group=("train",),
    )
    run(request)
    assert EpisodeStore.open(tmp_path / "c.zarr")["action"][::2, 0].tolist() == [0, 2, 10, 12]

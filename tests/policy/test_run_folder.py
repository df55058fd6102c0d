"""A run's folder: one process trains in it, and nothing is overwritten."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dipole.data.core.errors import CheckpointError, ConfigError
from dipole.policy.training.output.run_folder import new_run_folder, resumed_run_folder


def test_runs_that_begin_at_once_get_folders_of_their_own(tmp_path):
    everybody = threading.Barrier(8)

    def begin(_):
        everybody.wait(60)
        with new_run_folder(tmp_path / "run", rename=True) as folder:
            (folder / "run.json").write_text("{}")
            everybody.wait(60)
            return folder.name

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(begin, range(8)))
    assert sorted(names) == ["run", *(f"run-{number}" for number in range(2, 9))]


def test_a_name_that_was_chosen_is_not_changed(tmp_path):
    with new_run_folder(tmp_path / "run") as folder:
        assert folder == tmp_path / "run"
        with (
            pytest.raises(ConfigError, match="another process is beginning a run there"),
            new_run_folder(tmp_path / "run"),
        ):
            pass
        (folder / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="already holds a run"), new_run_folder(tmp_path / "run"):
        pass


def test_a_run_is_resumed_by_one_process_at_a_time(tmp_path):
    with pytest.raises(CheckpointError, match="no run there"), resumed_run_folder(tmp_path):
        pass
    (tmp_path / "run.json").write_text("{}")
    with (
        resumed_run_folder(tmp_path),
        pytest.raises(ConfigError, match="another process trains it at present"),
        resumed_run_folder(tmp_path),
    ):
        pass
    with resumed_run_folder(tmp_path):
        pass

"""How processes of one machine divide an update: in shared memory, or each the whole."""

import os
import re
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from ranks_fixture import configuration, ended, in_processes, silent, write_pictures

from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.training.optimization import division
from dipole.policy.training.optimization.division import SharedDivision, owners_of
from dipole.policy.training.process import shared_memory
from dipole.policy.training.process.group import Group
from dipole.policy.training.process.shared_memory import SharedMemory
from dipole.policy.training.run import start_run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text()
on_linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux has such memory")


@given(st.lists(st.lists(st.integers(0, 50), max_size=12), max_size=3), st.integers(1, 5))
def test_every_parameter_is_one_process_s_and_each_has_about_as_much(updates, count):
    tensors = [[torch.empty(size) for size in sizes] for sizes in updates]
    owners = owners_of(tensors, count)
    assert {id(each) for each in owners} == {id(each) for of in tensors for each in of}
    for parameters in tensors:
        load = [sum(p.numel() for p in parameters if owners[p] == rank) for rank in range(count)]
        assert max(load) - min(load) <= max((p.numel() for p in parameters), default=0)


def test_a_parameter_of_two_updates_has_one_owner():
    shared, first, second = (torch.empty(size) for size in (5, 4, 3))
    owners = owners_of([[shared, first], [second, shared]], 2)
    assert [owners[each] for each in (shared, first, second)] == [0, 1, 1]


@pytest.fixture
def adversarial():
    """An objective of two updates: that on the architecture page, as it stands."""
    before = dict(OBJECTIVES._table)
    code = re.search(r"## An objective of one's own.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
    exec(compile(code, "docs/architecture.md", "exec"), {})
    yield {"name": "adversarial_cloning", "weight": 0.5}
    OBJECTIVES._table.clear()
    OBJECTIVES._table.update(before)


def tensors_of(run):
    return {
        f"{path.name}:{name}": tensor
        for path in sorted(checkpoints_of(run)[-1].glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


@on_linux
@pytest.mark.heavy
@pytest.mark.parametrize("count", [2, 3])
def test_shared_memory_gives_what_summing_everywhere_gives(tmp_path, adversarial, count):
    """Of two updates and two averages; with two processes the same bits."""
    dataset = write_pictures(tmp_path / "arm.zarr")
    config = configuration(dataset, objective=adversarial, steps=4)

    def work(run):
        made = []
        with patch.object(division, "SharedDivision", wraps=SharedDivision) as seen:
            start_run(config, run, say=silent)
            made += seen.mock_calls
        return len(made)

    def apart(_rank):
        with patch.object(shared_memory, "_create", lambda size: None):
            return work(tmp_path / "apart")

    assert ended(in_processes(count, apart, tmp_path), tmp_path) == [(0, "0")] * count
    shared = in_processes(count, lambda rank: work(tmp_path / "shared"), tmp_path)
    assert ended(shared, tmp_path) == [(0, "1")] * count
    ours, theirs = tensors_of(tmp_path / "shared"), tensors_of(tmp_path / "apart")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if count == 2:
            assert torch.equal(tensor, theirs[name]), name
        else:  # three numbers are added in another order
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4, msg=name)


@on_linux
@pytest.mark.heavy
def test_memory_that_one_process_cannot_open_is_nobody_s(tmp_path):
    """As where it is on another machine."""

    def work(rank):
        path = "/nowhere" if rank == 1 else None
        opened = shared_memory._open

        def not_there(found, token, size):
            return opened(path or found, token, size)

        with patch.object(shared_memory, "_open", not_there):
            return SharedMemory.of(Group.current(), [torch.zeros(3)])

    found = ended(in_processes(2, work, tmp_path), tmp_path)
    assert found == [(0, "None")] * 2


@on_linux
@pytest.mark.heavy
def test_what_one_process_writes_another_reads_in_the_order_of_memory_that_it_had(tmp_path):
    like = [torch.zeros((), dtype=torch.float64), torch.zeros(2, 3, 4).permute(2, 0, 1)]
    like.append(torch.zeros(0))

    def work(rank):
        group = Group.current()
        memory = SharedMemory.of(group, like)
        number, weights, nothing = [memory.take(each) for each in like]
        assert nothing.numel() == 0
        if rank == 0:
            number.fill_(7.0)
            weights.copy_(torch.arange(24.0).view(4, 2, 3))
        group.round()
        same = torch.equal(weights, torch.arange(24.0).view(4, 2, 3))
        return float(number), same, weights.stride(), str(number.dtype)

    found = ended(in_processes(2, work, tmp_path), tmp_path)
    assert found == [(0, "(7.0, True, (1, 12, 4), 'torch.float64')")] * 2


@on_linux
def test_a_sandbox_that_forbids_such_memory_has_none(monkeypatch):
    def forbidden(_name):
        raise PermissionError

    monkeypatch.setattr(os, "memfd_create", forbidden)
    assert shared_memory._create(64) is None


@on_linux
def test_another_file_at_the_same_place_is_not_taken(tmp_path):
    file = shared_memory._create(4096)
    path = f"/proc/{os.getpid()}/fd/{file}"
    assert shared_memory._open(path, shared_memory._token(file), 4096) is not None
    assert shared_memory._open(path, "0" * shared_memory.TOKEN, 4096) is None
    assert shared_memory._open("/proc/0/fd/0", shared_memory._token(file), 4096) is None
    os.close(file)

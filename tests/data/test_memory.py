"""Free memory in containers, and amounts of it as a person writes them."""

import pytest

from dipole.data import ConfigError
from dipole.data.core.memory import format_bytes, free_memory, read_bytes

GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """Writes files of /proc and /sys below a root: {path: text}; 64 GiB are available."""

    def write(files):
        for name, text in {"proc/meminfo": f"MemAvailable: {64 * 2**20} kB\n", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def v2(folder, limit, used, stat=""):
    root = f"sys/fs/cgroup{folder}"
    return {
        f"{root}/memory.max": f"{limit}\n",
        f"{root}/memory.current": f"{used}\n",
        f"{root}/memory.stat": stat,
    }


def v1(folder, limit, used, stat=""):
    root = f"sys/fs/cgroup/memory{folder}"
    return {
        f"{root}/memory.limit_in_bytes": f"{limit}\n",
        f"{root}/memory.usage_in_bytes": f"{used}\n",
        f"{root}/memory.stat": stat,
    }


def test_without_groups_it_is_what_the_machine_has(machine):
    assert free_memory(machine({})) == 64 * GIB


def test_the_group_of_the_process_counts_and_not_the_root_alone(machine):
    files = {"proc/self/cgroup": "0::/user.slice/job.scope\n"}
    files |= v2("/user.slice/job.scope", 8 * GIB, 3 * GIB)
    assert free_memory(machine(files)) == 5 * GIB


def test_a_group_around_it_may_have_less(machine):
    files = {"proc/self/cgroup": "0::/slurm/job/step\n"}
    files |= v2("/slurm/job/step", "max", GIB) | v2("/slurm/job", 6 * GIB, 2 * GIB)
    assert free_memory(machine(files)) == 4 * GIB


def test_the_file_cache_is_free(machine):
    stat = f"anon {GIB}\nfile {5 * GIB}\nshmem {GIB}\ninactive_file {3 * GIB}\nactive_file {GIB}\n"
    files = {"proc/self/cgroup": "0::/job\n", **v2("/job", 8 * GIB, 6 * GIB, stat)}
    assert free_memory(machine(files)) == 6 * GIB  # what is shared stays


def test_version_1_beside_others(machine):
    stat = f"inactive_file 5\ntotal_inactive_file {GIB}\ntotal_active_file {GIB}\n"
    files = {"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n"}
    files |= v1("/docker/abc", 10 * GIB, 4 * GIB, stat)
    assert free_memory(machine(files)) == 8 * GIB


def test_a_container_that_sees_its_own_group_as_the_root(machine):
    files = {"proc/self/cgroup": "4:memory:/docker/abc\n", **v1("", 10 * GIB, 4 * GIB)}
    assert free_memory(machine(files)) == 6 * GIB


def test_an_unlimited_group_limits_nothing(machine):
    files = {"proc/self/cgroup": "4:memory:/\n", **v1("", 2**63 - 4096, 4 * GIB)}
    assert free_memory(machine(files)) == 64 * GIB


def test_more_in_use_than_allowed_is_nothing_free(machine):
    files = {"proc/self/cgroup": "0::/job\n", **v2("/job", GIB, 2 * GIB)}
    assert free_memory(machine(files)) == 0


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        (1024, 1024),
        ("0", 0),
        ("4GiB", 4 * GIB),
        ("1.5 gib", 3 * GIB // 2),
        ("500 MB", 500_000_000),
        ("2 KiB", 2048),
    ],
)
def test_amounts_are_read_as_they_are_written(text, n_bytes):
    assert read_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["four", "-1", "4 GiBi", "", "4G", True, "nan"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ConfigError, match="is no amount of memory: give bytes, or e"):
        read_bytes(text)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (2048, "2 KiB"), (3 * 2**30, "3 GiB"), (2**50, "1024 TiB")],
)
def test_bytes_are_written_for_a_person(n_bytes, text):
    assert format_bytes(n_bytes) == text

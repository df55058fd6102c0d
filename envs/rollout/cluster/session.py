"""A connection to a Ray cluster: one that runs, or one that is started on this machine."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.envs.rollout.cluster.settings import ClusterSettings

LOCAL, AUTO = "local", "auto"
ANSWER_SECONDS = 5.0  # in which the head of a cluster accepts a connection
OBJECT_STORE = 512 * 2**20  # bytes, of a local one: turns and batches are small and soon taken


def ray_module() -> Any:
    """Raises ConfigError where Ray is not installed."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"cluster=ray needs Ray, which cannot be imported ({error}): "
            "pip install 'dipole[cluster]'"
        ) from error
    return ray


@contextmanager
def connected(settings: ClusterSettings, cpus: int) -> Iterator[Any]:
    """The module `ray`, connected; a connection that was there before stays.

    cpus: Of a cluster that is started here. Raises ConfigError where it cannot be reached.
    """
    ray = ray_module()
    if ray.is_initialized():
        yield ray
        return
    try:
        _connect(ray, settings.address, cpus)
    except (OSError, ValueError, RuntimeError) as error:
        where = settings.address or "a local cluster"
        raise ConfigError(
            f"cluster.address={where}: no Ray cluster could be reached or started ({error}); "
            "`ray start --head` starts one, cluster.address=local one of this process's own"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None, cpus: int) -> None:
    quiet = {"logging_level": "ERROR", "configure_logging": True}
    if address not in (None, LOCAL):
        ray.init(address=address, **quiet)
        return
    if address is None and not _has_ended():
        try:
            ray.init(address=AUTO, **quiet)
            return
        except ConnectionError:  # none runs here
            pass
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address=LOCAL,
        num_cpus=cpus,
        object_store_memory=OBJECT_STORE,
        include_dashboard=False,
        **quiet,
    )


def _has_ended() -> bool:
    """Whether the cluster that Ray has noted for this machine is no more: where it ended without
    `ray stop`, Ray would look for it for minutes."""
    if os.environ.get("RAY_ADDRESS"):
        return False
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        host, _, port = note.read_text().strip().rpartition(":")
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return False

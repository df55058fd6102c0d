"""`dipole serve`: offer a policy's chunks to robots on other computers."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from dipole.apps.compose import run
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.loop.config import is_positive
from dipole.deploy.server.batching import BatchSettings
from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.server import PolicyServer
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.server.swapping import Newest, Swapper
from dipole.deploy.wire.protocol import check_token

Config = dict[str, Any]
NOT_ENCRYPTED = (
    "not encrypted: whoever is on the way can read the token and what the robot sees. Put a proxy "
    "with TLS before it (docs/serve.md), or use a network that is yours alone"
)


def main(argv: list[str]) -> int:
    return run("serve", argv, serve, sweeps=False)


def serve(config: Config) -> int:
    """Load, warm up, listen until Ctrl-C."""
    check_token(config["token"])
    address = {"host": config["host"], "port": config["port"], "token": config["token"] or None}
    server_config = from_mapping(ServerConfig, {**config["server"], **address}, "server")
    batch = from_mapping(BatchSettings, config["batch"], "batch")
    watch, forget_after = config["watch"], config["forget_after"]
    if watch is not None and not is_positive(watch):
        raise ConfigError(f"watch is {watch!r}; it must be a number of seconds above 0, or null")
    if not is_positive(forget_after) and forget_after != 0:
        raise ConfigError(f"forget_after is {forget_after!r}; it must be a number of seconds")
    with _noted_hangup() as hangups:
        served, newest = _policies(config, batch)
        server = PolicyServer(served, server_config, log=_say)
        swappers = [Swapper(served[name], newest[name], _say, name) for name in served]
        if not server_config.is_local:
            print(NOT_ENCRYPTED)
        _run(server, swappers, watch, hangups)
    return 0


def _run(
    server: PolicyServer, swappers: Sequence[Swapper], watch: float | None, hangups: list[int]
) -> None:
    server_config = server.config
    try:
        asyncio.run(_until_stopped(server, swappers, watch, hangups))
    except OSError as error:
        where = f"{server_config.host}:{server_config.port}"
        raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from error


@contextlib.contextmanager
def _noted_hangup() -> Iterator[list[int]]:
    """While a policy is loaded, which may take minutes, SIGHUP asks to look for newer weights
    afterwards: by default it would end the process."""
    noted: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGHUP, before)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # its terminal was closed: robots are served all the same
        print(line, flush=True)


def _policies(
    config: Config, batch: BatchSettings
) -> tuple[dict[str, ServedPolicy], dict[str, Newest]]:
    """By name, what is served and what looks for newer weights; the first has no name."""
    from dipole.deploy.server.load import load_served, newest_of

    served, newest = {}, {}
    for name, checkpoint in {"": config["checkpoint"], **config["policies"]}.items():
        terms = FromCheckpoint.from_dict({**config, "checkpoint": checkpoint})
        newest[name] = newest_of(terms, batch.size)  # before: what is newer then is found later
        served[name] = load_served(terms, config["forget_after"], batch)
    return served, newest


async def _until_stopped(
    server: PolicyServer, swappers: Sequence[Swapper], watch: float | None, hangups: Sequence[int]
) -> None:
    loop = asyncio.get_running_loop()
    looks: set[asyncio.Task[Any]] = set()

    def look() -> None:
        for each in swappers:
            task = loop.create_task(each.look())
            looks.add(task)
            task.add_done_callback(looks.discard)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, look)
    if watch is not None:
        looks.update(loop.create_task(each.watch(watch)) for each in swappers)

    def ready(port: int) -> None:
        token = "with" if server.config.token else "without"
        _say(f"serving on ws://{server.config.host}:{port}, {token} a token")
        if hangups:
            look()

    try:
        await server.run(ready)
    finally:
        for task in looks:
            task.cancel()

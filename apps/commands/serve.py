"""`dipole serve`: offer a policy's chunks to robots on other computers."""

import asyncio
import signal
from typing import Any

from dipole.apps.compose import run
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.server import PolicyServer
from dipole.deploy.server.session import ServedPolicy

Config = dict[str, Any]
NOT_ENCRYPTED = (
    "not encrypted: whoever is on the way can read the token and what the robot sees. Put a proxy "
    "with TLS before it (docs/serve.md), or use a network that is yours alone"
)


def main(argv: list[str]) -> int:
    return run("serve", argv, serve, sweeps=False)


def serve(config: Config) -> int:
    """Load, warm up, listen until Ctrl-C."""
    address = {"host": config["host"], "port": config["port"], "token": config["token"] or None}
    server_config = from_mapping(ServerConfig, {**config["server"], **address}, "server")
    served = _policy(config)
    server = PolicyServer(served, server_config, log=lambda line: print(line, flush=True))
    if not server_config.is_local:
        print(NOT_ENCRYPTED)
    try:
        asyncio.run(_until_stopped(server))
    except OSError as error:
        where = f"{server_config.host}:{server_config.port}"
        raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from error
    return 0


def _policy(config: Config) -> ServedPolicy:
    from dipole.deploy.server.load import load_served

    return load_served(FromCheckpoint.from_dict(config), config["forget_after"])


async def _until_stopped(server: PolicyServer) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)

    def ready(port: int) -> None:
        token = "with" if server.config.token else "without"
        print(f"serving on ws://{server.config.host}:{port}, {token} a token", flush=True)

    await server.run(ready)

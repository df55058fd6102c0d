"""A policy server in a process of its own, to be killed: prints its port, then serves."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from real_server import served

from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.server import PolicyServer

if __name__ == "__main__":
    server = PolicyServer(served(), ServerConfig(port=int(sys.argv[1])), lambda line: None)
    asyncio.run(server.run(lambda port: print(port, flush=True)))

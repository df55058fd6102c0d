"""Injectors of a network's faults: a server that answers as it is told, and a proxy that fails."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

sys.path.insert(0, str(Path(__file__).parent))
from virtual_robot import counting

from dipole.deploy.wire.codec import pack, unpack
from dipole.deploy.wire.protocol import answer_message, read_request


class Close(NamedTuple):
    """Instead of a message: the connection's end."""

    code: int
    reason: str = ""


class FaultyServer:
    """Greets, and answers each request with the messages of answers(its number, the right one).

    A message is packed unless it is bytes or text, or Close. openpi: there is no right one, and
    answers gets the observation instead. greeting: a message, or a function of the connection's
    number, from 1. connections: how many there were.
    """

    def __init__(self, greeting, answers, openpi=False):
        self._greeting = greeting if callable(greeting) else lambda number: greeting
        self._answers, self._openpi = answers, openpi
        self._number = self.connections = 0
        self._server = serve(self._handle, "127.0.0.1", 0, compression=None)
        self.address = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()

    def _handle(self, connection):
        with contextlib.suppress(ConnectionClosed):
            self.connections += 1
            connection.send(pack(self._greeting(self.connections)))
            while True:
                message = unpack(connection.recv())
                self._number += 1
                if self._openpi:
                    number, given = self._number, message
                else:
                    request = read_request(message)
                    number = request.ticket.chunk_id
                    chunk = counting()(request.ticket, request.observation)
                    given = answer_message(request, chunk, 0.0)
                for said in self._answers(number, given):
                    if isinstance(said, Close):
                        connection.close(*said)
                    else:
                        connection.send(said if isinstance(said, bytes | str) else pack(said))


class BlockedServer:
    """As openpi's servers do, it computes in its event loop, `seconds` for each chunk [10, 2], and
    answers no ping meanwhile. connections: how many there were."""

    def __init__(self, seconds):
        self._seconds = seconds
        self.connections = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    async def _run(self):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with websockets.asyncio.server.serve(self._handle, "127.0.0.1", 0) as server:
            self.address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()
            await self._over.wait()

    async def _handle(self, connection):
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            await connection.send(pack({}))
            while True:
                await connection.recv()
                time.sleep(self._seconds)
                await connection.send(pack({"actions": np.zeros((10, 2))}))


class Proxy:
    """Passes bytes between clients and the server at `port`, until it cuts or freezes them.

    passed: pieces that went towards the server.
    """

    def __init__(self, port):
        self._port = port
        self.passed = 0
        self._frozen = threading.Event()
        self._old = []  # sockets of frozen connections: kept open, and never read again
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        self.cut()
        for kept in self._old:
            kept.close()

    def cut(self):
        """End all connections, on both sides."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def freeze(self):
        """Nothing passes any more, and nobody is told; new connections hang as well."""
        self._frozen.set()
        self._old += self._sockets
        self._sockets.clear()

    def thaw(self):
        """New connections pass again."""
        self._frozen.clear()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._frozen.is_set():
                    self._old.append(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                for ends in ((near, far, 1), (far, near, 0)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source, target, counts):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source in self._old:
                    return
                target.sendall(data)
                self.passed += counts
            if source not in self._old:
                target.shutdown(socket.SHUT_WR)

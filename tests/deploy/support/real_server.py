"""A policy server in a thread of the test, with a policy of known numbers, and plain clients."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
from websockets.sync.client import connect

sys.path.insert(0, str(Path(__file__).parent))
from virtual_robot import WINDOW, counting

from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.server import PolicyServer
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.types import PolicySpec, Request, Ticket
from dipole.deploy.wire.codec import pack, unpack
from dipole.deploy.wire.protocol import Schema, request_message

SPEC = PolicySpec({"x": (2,)}, 2, WINDOW)
TOKEN = "a token of some length"
OBSERVATION = {"x": np.zeros((2, 2), np.float32)}


def served(compute=None, spec=SPEC, fingerprint="f", **options):
    return ServedPolicy(Schema(spec, {}, fingerprint), lambda: compute or counting(), **options)


class Running:
    """A server that runs: its port, what it logged, and its end."""

    def __init__(self, policy=None, port=0, **settings):
        self.log = []
        self.server = PolicyServer(
            policy or served(), ServerConfig(port=port, **settings), self.log.append
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the server did not start"

    def _run(self):
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self.server.run(self._note))
        self._loop.close()

    def _note(self, port):
        self.port = port
        self._ready.set()

    @property
    def address(self):
        return f"ws://127.0.0.1:{self.port}"

    @property
    def alive(self):
        return self._thread.is_alive()

    def stop(self):
        if self.alive:
            self._loop.call_soon_threadsafe(self.server.stop)
            self._thread.join(20)
        assert not self.alive


@contextlib.contextmanager
def running(policy=None, **settings):
    server = Running(policy, **settings)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def plain_client(address, **options):
    """A connection that speaks the bytes it is told to; its greeting is read."""
    with connect(address, compression=None, proxy=None, **options) as connection:
        connection.greeting = unpack(connection.recv(timeout=10))
        yield connection


def ask(connection, message):
    connection.send(pack(message))
    answer = connection.recv(timeout=20)
    return answer if isinstance(answer, str) else unpack(answer)


def a_request(number=1, observation=OBSERVATION, epoch=0):
    return request_message(Request(Ticket(number, epoch, 0.0, 0), observation))


def wait_until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


def raw_client(port, robot=""):
    """A socket on which a WebSocket was opened by hand."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(
        f"GET /{robot} HTTP/1.1\r\nHost: x\r\n".encode()
        + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"101" in connection.recv(4096)
    return connection


def frame_of(length, opcode=0x82):
    """The head of a masked frame: whole message, `length` bytes."""
    return bytes([opcode, 0xFF]) + length.to_bytes(8, "big") + b"\0\0\0\0"

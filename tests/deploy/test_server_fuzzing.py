"""Ten thousand malformed messages from one seed: to the decoder, and over real sockets."""

import contextlib
import itertools
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

sys.path.insert(0, str(Path(__file__).parent / "support"))
from real_server import a_request, ask, frame_of, plain_client, raw_client, running, wait_until

from dipole.deploy.wire.codec import MessageError, pack, unpack

GOOD = [pack(a_request()), pack({"observation/x": np.zeros(2), "prompt": "push"})]


def malformed(rng):
    """A whole message cut off, changed, put into or repeated; nesting, false lengths, or noise."""
    good = GOOD[rng.integers(2)]
    place, noise = int(rng.integers(len(good))), rng.bytes(int(rng.integers(1, 64)))
    nesting = bytes([int(rng.choice([0x91, 0x81, 0xDC, 0xDD, 0xDE, 0xDF]))])
    length = bytes([int(rng.choice([0xC6, 0xDB, 0xDD, 0xDF, 0xC9]))]) + b"\xff" * 4
    return [
        good[:place],
        good[:place] + bytes([rng.integers(256)]) + good[place + 1 :],
        good[:place] + noise + good[place:],
        good + good[place:],
        nesting * (place * 20 + 1),
        length + noise,
        noise,
    ][rng.integers(7)]


def memory():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def provoke(server, message):
    """Send it over a connection of its own; what comes back, as text, or nothing for an answer."""
    with contextlib.suppress(TimeoutError), plain_client(server.address) as client:
        try:
            client.send(message)
            said = client.recv(timeout=20)
            return said if isinstance(said, str) else str(unpack(said).get("error", ""))
        except ConnectionClosed as closed:
            return str(closed)
    raise AssertionError(f"no answer to {message!r}")


def test_nine_thousand_malformed_messages_are_read_or_refused():
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(9000):
        try:
            unpack(malformed(rng))
        except MessageError:
            refused += 1
    assert refused > 6000


@pytest.mark.slow
def test_a_thousand_malformed_messages_leave_the_server_alive_and_its_memory_bounded():
    rng = np.random.default_rng(1)
    with running(max_message=2**20, max_clients=1) as server:
        said, before = [], 0
        for number in range(1000):
            before = before or (number == 100 and memory())
            said.append(provoke(server, malformed(rng)))
            wait_until(lambda: not len(server.server.connections))
        with plain_client(server.address) as client:
            assert ask(client, a_request(7))["actions"][1, 0] == 700.0
    assert sum(map(bool, said)) > 600
    assert not [words for words in said if "Traceback" in words or ".py" in words]
    assert memory() - before < 64 * 2**20


def test_frames_that_break_the_protocol_end_their_connections_only():
    opcodes, lengths = [0x83, 0x8B, 0xC2, 0x02, 0x80, 0x89], [0, 10, 2**40]
    timeouts = {"ping_interval": 0.1, "ping_timeout": 0.1, "receive_timeout": 0.1}
    with running(max_clients=20, **timeouts) as server:
        clients = []
        for opcode, length in itertools.product(opcodes, lengths):
            clients.append(raw_client(server.port, f"{opcode}_{length}"))
            clients[-1].sendall(frame_of(length, opcode) + b"\0" * 10)
        wait_until(lambda: len(server.log) >= 2 * len(clients))  # they came and went
        for client in clients:
            client.close()
        wait_until(lambda: answers(server))  # itself pinged every 0.1 s, it may have to try again


def answers(server):
    """Whether a client gets its chunk."""
    with contextlib.suppress(ConnectionClosed), plain_client(server.address) as another:
        return ask(another, a_request())["actions"].shape == (16, 2)
    return False


def test_what_is_no_websocket_at_all_is_answered_without_a_traceback():
    rng = np.random.default_rng(2)
    head = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    opening = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        head + b"\r\n",
        head + b"Sec-WebSocket-Version: 99\r\nSec-WebSocket-Key: x\r\n\r\n",
        head + b"Authorization: \xff\xfe\r\nAuthorization: twice\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        head + b"X: y\r\n" * 500 + b"\r\n",
        *(rng.bytes(int(rng.integers(1, 300))) + b"\r\n\r\n" for _ in range(100)),
    ]
    with running(open_timeout=0.5) as server:
        for sent in opening:
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                client.sendall(sent)
                said = b""
                with contextlib.suppress(OSError):
                    while received := client.recv(65536):
                        said += received
                assert b"Traceback" not in said
                assert b".py" not in said
        with plain_client(server.address) as another:
            assert ask(another, a_request())["actions"].shape == (16, 2)

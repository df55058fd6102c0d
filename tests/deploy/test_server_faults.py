"""What the policy server survives: malformed and slow clients, chunks that take too long."""

import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from dipole.deploy.server.batching import Overloaded
from dipole.deploy.server.session import Session
from dipole.deploy.wire.codec import pack, unpack

sys.path.insert(0, str(Path(__file__).parent / "support"))
from real_server import (
    a_request,
    ask,
    frame_of,
    plain_client,
    raw_client,
    running,
    served,
    wait_until,
)
from virtual_robot import counting


def test_a_message_that_is_too_large_ends_its_connection_only():
    with running(max_message=10_000) as small, plain_client(small.address) as client:
        assert ask(client, a_request())["actions"].shape == (16, 2)
        with pytest.raises(ConnectionClosed) as caught:
            ask(client, {"x": np.zeros(20_000, np.uint8)})
        assert caught.value.rcvd.code == 1009
        wait_until(lambda: not len(small.server.connections))
        with plain_client(small.address) as another:
            assert ask(another, a_request())["actions"].shape == (16, 2)


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"\x91" * 5000, 1007, "nested more than 8 deep"),
        (b"\xc1", 1007, "not readable as msgpack"),
        (pack({"x": np.zeros(2)})[:-3], 1007, "not readable"),
        ("text", 1003, "the message is text"),
        ([b"\0"] * 1001, 1008, "too many fragments"),
    ],
)
def test_a_malformed_message_ends_its_connection_with_the_reason(server, data, code, said):
    with plain_client(server.address) as client:
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012
            client.send(data)
            assert said in client.recv(timeout=20)
            client.recv(timeout=20)
        assert caught.value.rcvd.code == code
    wait_until(lambda: not len(server.server.connections))


def test_while_one_client_waits_for_its_chunk_others_are_greeted_and_pings_answered():
    go_on = threading.Event()

    def compute(ticket, observation):
        go_on.wait(20)
        return counting()(ticket, observation)

    with running(served(compute)) as server, plain_client(server.address + "/a") as first:
        first.send(pack(a_request()))
        assert first.ping().wait(10)
        with plain_client(server.address + "/b") as second:
            assert second.greeting["dipole"]["protocol"] == 1
        go_on.set()
        assert first.recv(timeout=20)


def test_requests_in_a_row_are_computed_one_after_the_other_and_in_order():
    working, most = [], []

    def compute(ticket, observation):
        working.append(1)
        most.append(len(working))
        time.sleep(0.01)
        working.pop()
        return counting()(ticket, observation)

    with running(served(compute)) as server, plain_client(server.address) as client:
        for number in range(1, 9):
            client.send(pack(a_request(number)))
        ids = [unpack(client.recv(timeout=20))["ticket"]["chunk_id"] for _ in range(8)]
    assert ids == list(range(1, 9))
    assert max(most) == 1


def test_a_chunk_that_takes_too_long_is_an_error_and_not_the_end():
    go_on = threading.Event()

    def compute(ticket, observation):
        if ticket.chunk_id == 1:
            go_on.wait(20)
        return counting()(ticket, observation)

    patient = running(served(compute), compute_timeout=0.2)
    with patient as server, plain_client(server.address) as client:
        assert "within 0.2 s" in ask(client, a_request(1))["error"]
        go_on.set()
        wait_until(lambda: "actions" in ask(client, a_request(2)))


def test_a_request_is_not_computed_beside_the_one_that_took_too_long():
    begun, go_on = threading.Event(), threading.Event()

    def compute(ticket, observation):
        begun.set()
        go_on.wait(20)
        return counting()(ticket, observation)

    session = Session(served(compute))
    first = threading.Thread(target=session.answer, args=(a_request(1),))
    first.start()
    assert begun.wait(20)
    with pytest.raises(Overloaded, match="still being computed: ask again later"):
        session.answer(a_request(2))
    go_on.set()
    first.join(20)
    assert "actions" in session.answer(a_request(3))


def test_a_client_that_leaves_during_its_chunk_makes_room_at_once():
    go_on = threading.Event()

    def compute(ticket, observation):
        go_on.wait(20)
        return counting()(ticket, observation)

    with running(served(compute)) as server:
        with plain_client(server.address) as client:
            client.send(pack(a_request()))
        wait_until(lambda: not len(server.server.connections), 5)
        go_on.set()


def test_a_slow_client_is_closed_in_the_middle_of_its_frame():
    with running(ping_interval=0.2, ping_timeout=0.3) as server:
        slow = raw_client(server.port)
        slow.sendall(frame_of(1000) + b"\0" * 10)
        while slow.recv(4096):  # the greeting, pings, and the end
            pass
        wait_until(lambda: not len(server.server.connections))
        slow.close()


def test_a_slow_client_is_closed_between_its_fragments():
    with running(receive_timeout=0.3) as server, plain_client(server.address) as client:

        def slowly():
            for _ in range(100):
                yield b"\0"
                time.sleep(0.05)

        with pytest.raises(ConnectionClosed) as caught:
            client.send(slowly())
        assert "too slowly" in caught.value.rcvd.reason


def test_a_client_that_does_not_take_its_answer_is_closed():
    def compute(ticket, observation):
        return {"action": np.zeros((2_000_000, 2))}

    settings = {"send_timeout": 0.5, "ping_interval": 30.0}
    with running(served(compute), **settings) as server:
        lazy = raw_client(server.port)
        body = pack(a_request())
        lazy.sendall(frame_of(len(body)) + body)
        wait_until(lambda: any("does not take its answers" in line for line in server.log))
        assert not len(server.server.connections)
        lazy.close()


def test_a_client_that_never_says_who_it_is_is_closed():
    with running(open_timeout=0.3) as server:
        silent = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        silent.sendall(b"GET / HT")
        assert silent.recv(4096) == b""
        silent.close()

"""The client on real sockets: a server that dies, comes back, is slow, lies, or goes silent."""

import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.inference.remote import RemoteInference
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.types import PolicySpec, Request, Ticket
from dipole.deploy.wire.codec import pack
from dipole.deploy.wire.protocol import ProtocolError, Schema, greeting
from dipole.deploy.wire.websocket import ClientConfig

sys.path.insert(0, str(Path(__file__).parent / "support"))
from client_requests import GREETING, answer, request
from faulty_server import FaultyServer, Proxy
from real_server import OBSERVATION, SPEC, TOKEN, Running, running, served, wait_until
from virtual_robot import WINDOW, counting

HUGE = PolicySpec({"x": (3_000_000,)}, 2, WINDOW)  # more than sockets hold
HUGE_OBSERVATION = {"x": np.zeros((2, 3_000_000), np.float32)}
IMPATIENT = ClientConfig(ping_interval=0.2, ping_timeout=0.3, open_timeout=1.0)

# Chunks -------------------------------------------------------------------------------------------


def test_a_server_is_one_more_inference(client):
    with running() as server:
        remote, local = client(server.address), ThreadInference(SPEC, counting())
        assert remote.spec == SPEC
        for inference in (remote, local):
            inference.warm_up(OBSERVATION, 2)
            inference.submit(request(3))
        far, near = answer(remote), answer(local)
        assert far.ticket == near.ticket
        assert far.answer["action"].tolist() == near.answer["action"].tolist()
        assert far.seconds > 0
        assert remote.round_trips.count == 3
        assert "round trip p50" in remote.notes[0]
        local.close()


def test_what_is_known_of_a_chunk_is_sent_with_the_request(client):
    def compute(ticket, observation, known=None):
        return {"action": np.asarray(known["values"]) + known["clip"]}

    policy = served(compute, PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True))
    with running(policy) as server:
        inference = client(server.address)
        assert inference.spec.inpaints
        known = {"values": np.ones((16, 2)), "clip": 3}
        inference.submit(Request(Ticket(1, 0, 0.0, 0), OBSERVATION, known))
        assert answer(inference).answer["action"][0, 0] == 4.0


def test_what_is_wrong_with_a_request_is_an_answer(client):
    with running() as server:
        inference = client(server.address)
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"y": np.zeros((2, 2))}))
        assert "the server: the observation has no 'x'" in answer(inference).error
        inference.submit(request(2))
        assert answer(inference).error == ""


# Who is refused -----------------------------------------------------------------------------------


def test_a_server_that_never_starts_is_said(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InferenceDied, match=r"no policy server at .* within 0.5 s: .*refused"):
            client(address, config=ClientConfig(start_timeout=0.5))


def test_a_server_that_starts_late_is_waited_for(client):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    late = []
    timer = threading.Timer(0.5, lambda: late.append(Running(port=port)))
    timer.start()
    inference = client(f"ws://127.0.0.1:{port}", config=ClientConfig(start_timeout=60.0))
    assert inference.spec == SPEC
    timer.join()
    late[0].stop()


def test_a_wrong_token_is_said_at_once(client):
    with running(token=TOKEN) as server:
        patient = ClientConfig(start_timeout=60.0)
        with pytest.raises(InferenceDied, match=r"HTTP 401\): wrong token, or none"):
            client(server.address, "wrong", config=patient)
        assert client(server.address, TOKEN).spec == SPEC


@pytest.mark.parametrize("token", ["SECRET-SECRET-SECRET\n", "SECRET-SECRET\x7fSECRET", 10**20])
def test_a_token_that_no_header_carries_is_refused_without_asking_and_without_its_text(token):
    with pytest.raises(ConfigError, match=r"the token (has a line break|is no text)") as refused:
        RemoteInference("ws://127.0.0.1:1", token, config=ClientConfig(start_timeout=600.0))
    assert str(token)[:6] not in str(refused.value)


def test_a_client_of_settings_that_are_no_numbers_is_refused():
    with pytest.raises(ConfigError, match="open_timeout is True; it must be a positive number"):
        ClientConfig(open_timeout=True)


def test_a_second_client_for_one_robot_is_refused_with_the_servers_words(client, caplog):
    with running() as server, caplog.at_level("INFO", "dipole.deploy"):
        client(server.address + "/left")
        with pytest.raises(
            InferenceDied, match=r"no place at .* robot 'left' has a client already"
        ):
            client(server.address + "/left", config=ClientConfig(start_timeout=0.5))
        client(server.address + "/right")
    assert len(caplog.messages) == 1  # at the first attempt
    assert "robot 'left' has a client already" in caplog.messages[0]
    assert caplog.messages[0].endswith("Trying again for 0.5 s")


def test_a_client_that_comes_while_the_one_before_leaves_gets_its_place(client):
    with running() as server:
        first = client(server.address + "/left")
        timer = threading.Timer(0.5, first.close)
        timer.start()
        second = client(server.address + "/left", config=ClientConfig(start_timeout=60.0))
        assert second.spec == SPEC
        timer.join()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8000", "http://127.0.0.1:8000", "ws://", "ws://127.0.0.1:99999"]
)
def test_an_address_that_is_none_is_said(client, address):
    with pytest.raises(ConfigError, match="server="):
        client(address)


# A network that fails -----------------------------------------------------------------------------


def test_a_request_that_went_with_its_connection_is_lost_and_the_next_is_answered(client):
    go_on = threading.Event()

    def compute(ticket, observation):
        if ticket.chunk_id == 1:
            go_on.wait(20)
        return counting()(ticket, observation)

    with running(served(compute)) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address)
        inference.submit(request(1))
        wait_until(lambda: proxy.passed > 1)
        proxy.cut()
        assert answer(inference).lost
        go_on.set()
        inference.submit(request(2))  # asked on the old connection: lost with it
        inference.submit(request(2))
        while (result := answer(inference)).lost:
            inference.submit(request(3))
        assert result.answer["action"][1, 0] in (200.0, 300.0)
        assert inference.reconnections == 1


def test_what_was_asked_while_there_was_no_connection_is_lost_with_it(client):
    first = Running()
    inference = client(first.address)
    first.stop()
    wait_until(lambda: not inference._socket.is_open)
    inference.submit(request(1))
    wait_until(lambda: inference._slot is None)  # it looks for the server
    inference.submit(request(2))
    with running(port=first.port):
        lost = [answer(inference) for _ in range(2)]
        assert sorted(result.ticket.chunk_id for result in lost) == [1, 2]
        assert all(result.lost for result in lost)
        inference.submit(request(3))
        assert answer(inference).answer["action"][1, 0] == 300.0


def test_while_a_server_is_lost_and_looked_for_that_is_said_once(client, caplog):
    first = Running()
    inference = client(first.address)
    first.stop()
    wait_until(lambda: not inference._socket.is_open)
    with caplog.at_level("INFO", "dipole.deploy"):
        inference.submit(request(1))
        wait_until(lambda: inference._pause > 0.2)  # more than one attempt
        lost = f"the policy server at {inference._socket.address} is lost: "
        assert [message.startswith(lost) for message in caplog.messages] == [True]
        assert caplog.messages[0].endswith(". Trying again")
        with running(port=first.port):
            assert answer(inference).lost
        assert caplog.messages[1].endswith("is back")


def test_a_half_open_connection_is_noticed_and_replaced(client):
    with running(ping_interval=20.0) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address + "/left", config=IMPATIENT)
        proxy.freeze()  # what is sent goes nowhere, and no end is seen
        inference.submit(request(1))
        assert answer(inference).lost
        inference.submit(request(2))
        assert inference.poll() is None
        proxy.thaw()  # for new connections; the server still believes in the old one
        while (result := answer(inference)).lost:
            inference.submit(request(3))
        assert result.error == ""
        assert len(server.server.connections) == 1


def test_answers_nobody_waits_for_are_dropped_and_counted(client):
    def answers(number, good):
        old = {**good, "ticket": {**good["ticket"], "chunk_id": number - 1}}
        return [old, good, good, old]  # from before, right, doubled, from before

    with FaultyServer(GREETING, answers) as server:
        inference = client(server.address)
        for number in range(1, 6):
            inference.submit(request(number))
            result = answer(inference)
            assert result.ticket.chunk_id == number
            assert result.answer["action"][1, 0] == 100.0 * number
        assert inference.stale >= 5


@pytest.mark.parametrize("garbage", [b"\xc1", b"\x91" * 3000, b"\x90", pack({"ticket": 1}), b""])
def test_a_servers_garbage_is_an_error_and_never_a_chunk(client, garbage):
    with FaultyServer(GREETING, lambda number, good: [garbage]) as server:
        inference = client(server.address)
        inference.submit(request(1))
        result = answer(inference)
        assert result.error.startswith("the server's answer: ")
        assert result.answer is None


def test_a_server_that_comes_back_with_another_policy_is_a_death(client):
    first = Running(served(fingerprint="a"))
    inference = client(first.address)
    first.stop()
    with running(served(fingerprint="b"), port=first.port):
        inference.submit(request(1))
        with pytest.raises(InferenceDied, match="came back with another policy"):
            answer(inference)


def test_a_protocol_of_another_version_is_said(client):
    told = greeting(Schema(SPEC), 2**25)
    told["dipole"]["protocol"] = 2
    with (
        FaultyServer(told, None) as server,
        pytest.raises(ProtocolError, match="speaks protocol 2"),
    ):
        client(server.address)


PATIENT = ClientConfig(answer_timeout=600.0, ping_interval=600.0)  # nothing ends by itself


def closes(inference):
    """Whether `close` returns, and the thread that waited ends."""
    closing = threading.Thread(target=inference.close)
    closing.start()
    closing.join(20)
    inference._thread.join(20)
    return not closing.is_alive() and not inference._thread.is_alive()


def test_closing_ends_the_wait_for_an_answer(client):
    asked = threading.Event()
    with FaultyServer(GREETING, lambda number, good: asked.set() or []) as server:
        inference = client(server.address, config=PATIENT)
        inference.submit(request(1))
        assert asked.wait(20)
        assert closes(inference)


def test_closing_ends_a_request_that_is_not_taken(client):
    with running(served(spec=HUGE)) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address, config=PATIENT)
        proxy.freeze()
        inference.submit(Request(Ticket(1, 0, 0.0, 0), HUGE_OBSERVATION))
        wait_until(inference._socket._connection.protocol_mutex.locked)  # it is being sent
        assert closes(inference)


def test_closing_ends_the_search_for_a_server(client):
    server = Running()
    inference = client(server.address)
    server.stop()
    inference.submit(request(1))
    wait_until(lambda: inference._last_loss != "")
    assert closes(inference)


def test_a_request_that_is_not_taken_is_given_up_after_the_answers_timeout(client):
    impatient = ClientConfig(answer_timeout=0.3, ping_interval=600.0)
    with running(served(spec=HUGE)) as server, Proxy(server.port) as proxy:
        inference = client(proxy.address, config=impatient)
        proxy.freeze()
        inference.submit(Request(Ticket(1, 0, 0.0, 0), HUGE_OBSERVATION))
        assert answer(inference).lost

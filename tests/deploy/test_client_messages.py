"""Messages between client and server that are refused, and connections that end because of them."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.types import Request, Ticket
from dipole.deploy.wire import websocket
from dipole.deploy.wire.codec import MessageLimits

sys.path.insert(0, str(Path(__file__).parent / "support"))
from client_requests import GREETING, answer, request
from faulty_server import Close, FaultyServer
from real_server import running, wait_until


def test_a_request_that_is_too_large_is_refused_before_it_is_sent_and_says_what_to_do(client):
    with running(max_message=400) as server:
        inference = client(server.address)
        for number in (1, 2):
            inference.submit(Request(Ticket(number, 0, 0.0, 0), {"x": np.zeros((2, 200))}))
            said = answer(inference).error
            assert "bytes, and the server takes 400: send fewer or smaller pictures" in said
            assert "serve with a larger server.max_message" in said
        inference.submit(request(3))
        assert answer(inference).answer["action"][1, 0] == 300.0
        assert inference.reconnections == 0
        with pytest.raises(InferenceDied, match=r"a larger server\.max_message"):
            inference.warm_up({"x": np.zeros((2, 200))}, 1)


def test_an_oversized_request_to_a_server_that_names_no_limit_is_no_storm_of_connections(client):
    greeting = {"dipole": {"protocol": 1}, "policy": GREETING["policy"]}
    too_large = {"x": np.zeros((2, 100_000))}  # for FaultyServer, which takes 1 MiB
    with FaultyServer(greeting, lambda number, good: [good]) as server:
        inference = client(server.address)
        said, until, number = set(), time.monotonic() + 3.0, 0
        while time.monotonic() < until:
            number += 1
            inference.submit(Request(Ticket(number, 0, 0.0, 0), too_large))
            result = answer(inference)
            if not result.lost:
                said.add(result.error)
        assert 2 <= server.connections <= 8
    assert said
    assert all("1009" in error and "a larger server.max_message" in error for error in said)


@pytest.mark.parametrize("code", [1003, 1007, 1008, 1009])
def test_a_connection_that_ends_because_of_a_message_is_an_error_with_its_reason(client, code):
    closes = [Close(code, "what you sent is odd")]
    with FaultyServer(GREETING, lambda number, good: closes if number == 1 else [good]) as server:
        inference = client(server.address)
        inference.submit(request(1))
        result = answer(inference)
        assert not result.lost
        assert result.error.startswith(
            f"the server's answer: it closed the connection with {code} ("
        )
        assert "what you sent is odd" in result.error
        inference.submit(request(2))
        assert answer(inference).lost  # it was asked before there was a connection
        inference.submit(request(3))
        assert answer(inference).error == ""


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013])
def test_a_connection_that_ends_for_another_reason_is_lost_and_the_report_says_why(client, code):
    closes = [Close(code, "going home")]
    with FaultyServer(GREETING, lambda number, good: closes) as server:
        inference = client(server.address)
        inference.submit(request(1))
        assert answer(inference).lost
        assert "last lost: " in inference.notes[0]
        assert "going home" in inference.notes[0]


def test_an_answer_that_is_too_large_is_an_error_and_not_asked_for_for_ever(client, monkeypatch):
    monkeypatch.setattr(websocket, "LIMITS", MessageLimits(size=1000))
    with FaultyServer(GREETING, lambda number, good: [b"0" * 2000]) as server:
        inference = client(server.address)
        inference.submit(request(1))
        assert "this client closed the connection with 1009" in answer(inference).error


def test_connections_that_bring_no_chunk_come_at_longer_and_longer_intervals(client, monkeypatch):
    pauses = []
    with FaultyServer(GREETING, lambda number, good: [Close(1001)]) as server:
        inference = client(server.address)
        monkeypatch.setattr(
            inference._closing, "wait", lambda pause: pauses.append(pause) or server.connections > 7
        )
        while inference._death is None:
            inference.submit(request(1))
            wait_until(lambda: inference._death is not None or inference._answers)
            inference._answers.clear()
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]

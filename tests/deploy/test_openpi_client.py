"""The client of a server of openpi, on real sockets."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dipole.data.core.errors import ConfigError
from dipole.deploy.inference.base import InferenceDied
from dipole.deploy.types import Request, Ticket
from dipole.deploy.wire.openpi import OpenpiTerms
from dipole.deploy.wire.websocket import ClientConfig

sys.path.insert(0, str(Path(__file__).parent / "support"))
from client_requests import GREETING, answer
from faulty_server import BlockedServer, Close, FaultyServer
from real_processes import RealRobot
from real_server import SPEC, running


def test_a_server_of_openpi_is_spoken_to_in_its_own_words(client, tmp_path):
    seen = []

    def answers(number, observation):
        seen.append(observation)
        return [{"actions": np.full((10, 2), float(number)), "server_timing": {"infer_ms": 2.0}}]

    with FaultyServer({"anything": 1}, answers, openpi=True) as server:
        terms = OpenpiTerms({"observation/state": "x"}, prompt="push")
        inference = client(server.address, robot=RealRobot(tmp_path).spec, openpi=terms)
        assert inference.spec.window.horizon == 10
        assert inference.spec.window.n_obs_steps == 1
        assert inference.spec.window.n_action_steps == 5
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"x": np.array([[3.0, 4.0]])}))
        assert answer(inference).answer["action"].tolist() == [[2.0, 2.0]] * 10
    assert seen[-1]["prompt"] == "push"
    assert seen[-1]["observation/state"].tolist() == [3.0, 4.0]


def test_an_openpi_servers_traceback_is_its_last_line(client, tmp_path):
    def answers(number, observation):
        good = {"actions": np.zeros((4, 2))}
        return [good] if number == 1 else ["Traceback ...\n  File x.py\nKeyError: 'image'\n"]

    with FaultyServer({}, answers, openpi=True) as server:
        inference = client(server.address, robot=RealRobot(tmp_path).spec)
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"x": np.zeros((1, 2))}))
        assert answer(inference).error == "the server's answer: it says KeyError: 'image'"


def test_a_server_that_blocks_its_event_loop_while_it_computes_is_waited_for(client, tmp_path):
    pings = ClientConfig(ping_interval=0.05, ping_timeout=0.1)
    with BlockedServer(seconds=1.0) as server:
        inference = client(server.address, config=pings, robot=RealRobot(tmp_path).spec)
        inference.submit(Request(Ticket(1, 0, 0.0, 0), {"x": np.zeros((1, 2))}))
        result = answer(inference)
        assert (result.lost, result.error) == (False, "")
        assert result.answer["action"].shape == (10, 2)
        assert inference.reconnections == 0


@pytest.mark.parametrize(
    ("greetings", "lengths", "same"),
    [
        ([{"of": "a"}] * 3, [10, 0, 10], True),
        ([{"of": "a"}, {"of": "a"}, {"of": "b"}], [10, 0, 10], False),
        ([{"of": "a"}] * 3, [10, 0, 8], False),
        ([{"of": "a"}, {"of": "a"}, GREETING], [10, 0, 10], False),
    ],
)
def test_a_server_of_openpi_that_comes_back_is_the_same_by_its_greeting_and_its_chunks(
    client, tmp_path, greetings, lengths, same
):
    def answers(number, observation):
        rows = lengths[min(number, 3) - 1]
        return [{"actions": np.zeros((rows, 2))} if rows else Close(1001)]

    with FaultyServer(lambda n: greetings[n - 1], answers, openpi=True) as server:
        inference = client(server.address, robot=RealRobot(tmp_path).spec)
        seen = {"x": np.zeros((1, 2))}
        inference.submit(Request(Ticket(1, 0, 0.0, 0), seen))
        assert answer(inference).lost
        inference.submit(Request(Ticket(2, 0, 0.0, 0), seen))
        if same:
            assert answer(inference).lost
            inference.submit(Request(Ticket(3, 0, 0.0, 0), seen))
            assert answer(inference).answer["action"].shape == (10, 2)
        else:
            with pytest.raises(InferenceDied, match="came back with another policy"):
                answer(inference)


def test_what_an_openpi_server_is_asked_has_to_be_the_robots(client, tmp_path):
    with FaultyServer({}, None, openpi=True) as server:
        with pytest.raises(ConfigError, match="is 'y'"):
            client(server.address, robot=RealRobot(tmp_path).spec, openpi=OpenpiTerms({"s": "y"}))
        with pytest.raises(ConfigError, match="none of dipole's"):
            client(server.address)


@pytest.mark.parametrize("steps", [0, -3, 2.5, True, "4"])
def test_a_number_of_actions_that_is_none_is_refused(steps):
    with pytest.raises(ConfigError, match=r"openpi.n_action_steps is .* at least 1, or null"):
        OpenpiTerms(n_action_steps=steps)


def test_more_actions_than_a_chunk_has_are_refused(client, tmp_path):
    with FaultyServer({}, lambda *_: [{"actions": np.zeros((4, 2))}], openpi=True) as server:
        terms = OpenpiTerms(n_action_steps=5)
        with pytest.raises(ConfigError, match=r"n_action_steps is 5, and a chunk .* has 4 actions"):
            client(server.address, robot=RealRobot(tmp_path).spec, openpi=terms)


def test_what_is_openpis_is_refused_where_the_server_is_dipoles(client):
    with running() as server:
        with pytest.raises(
            ConfigError, match=r"openpi.prompt, openpi.n_action_steps: for a server"
        ):
            client(server.address, openpi=OpenpiTerms(prompt="fold", n_action_steps=4))
        assert client(server.address, openpi=OpenpiTerms()).spec == SPEC

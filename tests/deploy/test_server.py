"""The policy server on real sockets: what it answers, and whom it refuses."""

import http.client
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dipole.data.core.errors import ConfigError
from dipole.deploy.server.config import ServerConfig
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.types import PolicySpec
from dipole.deploy.wire.protocol import Schema

sys.path.insert(0, str(Path(__file__).parent / "support"))
from real_server import (
    SPEC,
    TOKEN,
    a_request,
    ask,
    plain_client,
    running,
    served,
    wait_until,
)
from virtual_robot import WINDOW, counting


def refusal(address, **options):
    """The status and the words with which a connection is refused."""
    with pytest.raises(InvalidStatus) as caught, plain_client(address, **options):
        pass
    response = caught.value.response
    return response.status_code, response.body.decode()


# Requests and answers -----------------------------------------------------------------------------


def test_the_greeting_says_what_the_policy_sees_and_does(server):
    with plain_client(server.address) as client:
        said = client.greeting
    assert said["dipole"]["protocol"] == 1
    assert said["policy"]["observation"] == {"x": {"shape": [2], "dtype": "float32"}}
    assert said["policy"]["window"] == {"n_obs_steps": 2, "horizon": 16, "n_action_steps": 8}
    assert said["policy"]["action_size"] == 2
    assert said["dipole"]["max_message"] == 32 * 2**20


def test_a_window_with_a_ticket_is_answered_with_the_whole_chunk_and_the_ticket(server):
    with plain_client(server.address) as client:
        answer = ask(client, a_request(3))
    assert answer["ticket"] == {"chunk_id": 3, "epoch": 0, "observation_time": 0.0, "consumed": 0}
    assert answer["actions"].shape == (16, 2)
    assert answer["actions"][1, 0] == 300.0
    assert answer["server_timing"]["infer_ms"] >= 0


@pytest.mark.parametrize("name", ["x", "observation/x"])
def test_an_openpi_client_gets_the_actions_from_the_current_one_on(server, name):
    with plain_client(server.address) as client:
        answer = ask(client, {name: np.zeros(2), "prompt": "push the T", "camera": np.zeros(3)})
    assert answer["actions"].shape == (15, 2)
    assert answer["actions"][0, 0] == 100.0


def remembering(shown):
    def compute(ticket, observation):
        shown.append((ticket.epoch, observation["x"][:, 0].tolist()))
        return counting()(ticket, observation)

    return compute


def test_single_observations_become_windows_and_a_gap_or_a_reset_begins_anew():
    shown, now = [], [0.0]
    policy = served(remembering(shown), forget_after=0.5, clock=lambda: now[0])
    with running(policy) as server, plain_client(server.address) as client:
        for value, seconds, more in [
            (1, 0.0, {}), (2, 0.1, {}), (3, 0.1, {}), (4, 0.6, {}), (5, 0.1, {"reset": True}),
        ]:  # fmt: skip
            now[0] += seconds
            ask(client, {"x": np.full(2, value), **more})
        ask(client, {"x": np.array([[8, 8], [9, 9]])})
    assert shown == [
        (1, [1, 1]), (1, [1, 2]), (1, [2, 3]), (2, [4, 4]), (3, [5, 5]), (3, [8, 9]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        ({}, "no 'x'; the policy needs x"),
        ({"xx": np.zeros(2)}, "no 'x', did you mean 'xx'"),
        ({"x": np.zeros(3)}, "shape [3]; [2] is needed, or a window of 2"),
        ({"x": np.array([0, np.nan])}, "not finite"),
        ({"x": "far"}, "observation 'x' has shape []"),
        ({"x": np.zeros((3, 2))}, "shape [3, 2]"),
        ({"x": [[1.0], [2.0, 3.0]]}, "observation 'x' is no array"),
        ({"x": [1.0, {"y": 2.0}]}, "dtype object; float32 is needed"),
        ({"x": [None, 1]}, "dtype object; float32 is needed"),
        ({"x": ["a", "b"]}, "dtype <U1; float32 is needed"),
        ({"x": np.zeros(2), "reset": np.zeros(2)}, "'reset' is ndarray"),
    ],
)
def test_a_client_learns_what_was_wrong_and_may_go_on(server, observation, said):
    with plain_client(server.address) as client:
        assert said in ask(client, observation)
        if "reset" not in observation:  # it means nothing where there is a ticket
            answer = ask(client, a_request(1, observation))
            assert said in answer["error"]
            assert answer["ticket"]["chunk_id"] == 1
        assert ask(client, a_request(2))["actions"].shape == (16, 2)
    assert not any("the policy failed" in line for line in server.log)


def test_a_message_that_is_no_request_is_answered(server):
    with plain_client(server.address) as client:
        assert ask(client, [1, 2]) == "a request is a map, not list"
        assert "the ticket" in ask(client, {"ticket": {"chunk_id": "x"}, "observation": {}})
        without = {"ticket": a_request()["ticket"]}
        assert "no 'observation'" in ask(client, without)
        assert "no 'known'" in ask(client, {**a_request(), "known": 3})


def test_what_is_known_of_a_chunk_reaches_the_policy():
    def compute(ticket, observation, known=None):
        return {"action": np.full((16, 2), -1.0 if known is None else known["values"][0, 0])}

    policy = served(compute, PolicySpec({"x": (2,)}, 2, WINDOW, inpaints=True))
    with running(policy) as server, plain_client(server.address) as client:
        assert client.greeting["policy"]["inpaints"] is True
        known = {"values": np.full((16, 2), 7.0)}
        assert ask(client, {**a_request(1), "known": known})["actions"][0, 0] == 7.0
        assert ask(client, a_request(2))["actions"][0, 0] == -1.0


def test_what_is_known_is_refused_where_the_policy_takes_nothing_known(server):
    with plain_client(server.address) as client:
        answer = ask(client, {**a_request(1), "known": {"values": np.zeros((16, 2))}})
        assert answer["error"] == "this policy cannot draw a chunk of which a part is known"


def test_pixels_are_not_taken_for_anything_else():
    policy = served()
    policy.schema.dtypes["x"] = "uint8"
    with running(policy) as server, plain_client(server.address) as client:
        assert "dtype float32; uint8 is needed" in ask(client, {"x": np.zeros(2, "f4")})
        assert ask(client, {"x": np.zeros(2, "u1")})["actions"].shape == (15, 2)


def test_what_a_policy_raises_is_not_for_clients_and_not_the_servers_end():
    def compute(ticket, observation):
        if ticket.chunk_id == 1:
            raise ValueError("/secret/path")
        return counting()(ticket, observation)

    with running(served(compute)) as server, plain_client(server.address) as client:
        answer = ask(client, a_request(1))
        assert answer["error"] == "the policy failed; the server's output says why"
        assert ask(client, a_request(2))["actions"].shape == (16, 2)
        said = next(line for line in server.log if line.startswith("the policy failed"))
        assert "Traceback" in said
        assert "test_server.py" in said
        assert 'raise ValueError("/secret/path")' in said


def test_a_server_that_fails_says_where_in_its_log_and_goes_on():
    def failing():
        raise ZeroDivisionError("of the server")

    with running(ServedPolicy(Schema(SPEC), failing)) as server:
        with plain_client(server.address) as client, pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=20)
        assert caught.value.rcvd.code == 1011
        assert "ZeroDivisionError" not in caught.value.rcvd.reason
        wait_until(lambda: any("in failing" in line for line in server.log))
        assert not len(server.server.connections)
        with plain_client(server.address):
            pass


# Who may come -------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused_and_the_right_one_in_both_schemes_is_not():
    with running(token=TOKEN) as server:
        for header in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN},
                       {"Authorization": "Bearer "}, {"Authorization": "Bearer käse"}):  # fmt: skip
            status, said = refusal(server.address, additional_headers=header)
            assert (status, said) == (401, "wrong token, or none\n")
        for scheme in ("Bearer", "Api-Key"):
            headers = {"Authorization": f"{scheme} {TOKEN}"}
            with plain_client(server.address, additional_headers=headers) as client:
                assert ask(client, a_request())["actions"].shape == (16, 2)


def test_odd_bytes_in_a_token_are_no_error():
    config = ServerConfig(token=TOKEN + "\udce4")
    assert config.admits(f"Bearer {TOKEN}\udce4")
    assert not config.admits("Bearer k\udce4se")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "there is no token"),
        ({"host": "gpu.example"}, "there is no token"),
        ({"token": "short"}, "at least 16 are needed"),
        ({"compute_timeout": 0}, "compute_timeout is 0"),
        ({"max_clients": -1}, "max_clients is -1"),
        ({"max_clients": True}, "max_clients is True; it must be a whole number above 0"),
        ({"max_message": 0.5}, "max_message is 0.5; it must be a whole number above 0"),
        ({"ping_timeout": True}, "ping_timeout is True; it must be a number above 0"),
        ({"port": 65536}, "port is 65536; it must be a whole number from 0 .* to 65535"),
        ({"port": -1}, "port is -1"),
        ({"port": 8000.5}, "port is 8000.5"),
        ({"port": True}, "port is True"),
    ],
)
def test_a_server_that_would_be_open_to_all_or_cannot_work_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        ServerConfig(**settings)


@pytest.mark.parametrize("token", [TOKEN + "\n", " " + TOKEN, TOKEN + "\r", "a\0b" + TOKEN, 10**20])
def test_a_token_that_no_header_carries_is_refused_without_its_text(token):
    with pytest.raises(ConfigError, match=r"the token (has a line break|is no text)") as refused:
        ServerConfig(token=token)
    assert str(token).strip() not in str(refused.value)


def test_a_second_client_for_one_robot_is_refused_and_one_for_another_is_not():
    with running() as server, plain_client(server.address + "/left") as first:
        status, said = refusal(server.address + "/left")
        assert status == 409
        assert said.startswith("robot 'left' has a client already (127.0.0.1:")
        with plain_client(server.address + "/right") as other:
            assert ask(other, a_request())["actions"].shape == (16, 2)
        assert ask(first, a_request())["actions"].shape == (16, 2)


def test_a_robot_is_free_again_when_its_client_is_gone():
    with running() as server:
        for _ in range(3):
            with plain_client(server.address + "/left") as client:
                ask(client, a_request())
            wait_until(lambda: not len(server.server.connections))


def test_a_client_takes_over_its_own_connection_and_nobody_elses():
    mine, yours = ({"Dipole-Client": name * 8} for name in "ab")
    with running() as server, plain_client(server.address, additional_headers=mine) as old:
        assert refusal(server.address, additional_headers=yours)[0] == 409
        assert refusal(server.address, additional_headers={"Dipole-Client": ""})[0] == 409
        with plain_client(server.address, additional_headers=mine) as new:
            with pytest.raises(ConnectionClosed):
                ask(old, a_request())
            assert ask(new, a_request())["actions"].shape == (16, 2)


def test_more_clients_than_allowed_are_refused():
    with running(max_clients=1) as server, plain_client(server.address + "/a"):
        assert "1 clients are connected" in refusal(server.address + "/b")[1]


def test_sockets_that_never_say_who_they_are_make_room_for_those_that_do():
    with running(open_timeout=600.0) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), 20) for _ in range(150)]
        with plain_client(server.address) as client:
            assert ask(client, a_request())["actions"].shape == (16, 2)
        wait_until(lambda: len(server.server.waiting) <= 64)
        assert idle[0].recv(1) == b""  # closed: the oldest
        with plain_client(server.address) as client:
            assert ask(client, a_request())["actions"].shape == (16, 2)
        for one in idle:
            one.close()
        wait_until(lambda: not len(server.server.waiting))


def test_a_web_page_cannot_reach_into_this_computer(server):
    assert refusal(server.address, origin="http://evil.example")[0] == 403


def test_a_health_check_is_answered(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()

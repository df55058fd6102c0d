"""Requests of several clients in one batch: who waits for whom, and what a failure costs."""

import asyncio
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from dipole.data.core.errors import ConfigError
from dipole.deploy.server.batching import Batcher, BatchSettings, Overloaded, Row
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.server.swapping import Swapper, swap
from dipole.deploy.types import Request, Result, Ticket
from dipole.deploy.wire.protocol import Schema, error_message, greeting, read_answer, read_greeting

sys.path.insert(0, str(Path(__file__).parent / "support"))
from real_server import OBSERVATION, SPEC, a_request, ask, plain_client, running, wait_until


class Model:
    """Chunks of one value; notes the rows of each batch, and begins only when it may."""

    def __init__(self, value=1.0, held=False):
        self.value, self.sizes = value, []
        self.began, self.may = threading.Event(), threading.Event()
        if not held:
            self.may.set()

    def noise(self):
        return None

    def compute(self, rows):
        self.began.set()
        self.may.wait(20)
        self.sizes.append(len(rows))
        if any(np.any(row.observation["x"] == 13) for row in rows):
            raise ZeroDivisionError("thirteen")
        return [{"action": np.full((16, 2), self.value, np.float32)} for _ in rows]


def asked(batcher, clients, observation=OBSERVATION):
    """One request of each of them at once: their answers, or what was raised."""
    answers = [None] * len(clients)

    def work(number):
        seen = observation if number == 0 else OBSERVATION
        try:
            answers[number] = clients[number](Ticket(1, 0, 0.0, 0), seen)
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(clients))]
    for thread in threads:
        thread.start()
    return answers, threads


def test_what_all_ask_is_one_batch():
    batcher = Batcher(Model(), BatchSettings(wait=20_000))
    _, threads = asked(batcher, [batcher.client() for _ in range(4)])
    for thread in threads:
        thread.join(20)
    assert batcher._model.sizes == [4]


def test_a_batch_has_no_more_rows_than_its_size():
    model = Model()
    batcher = Batcher(model, BatchSettings(size=2, wait=20_000))
    _, threads = asked(batcher, [batcher.client() for _ in range(4)])
    for thread in threads:
        thread.join(20)
    assert model.sizes == [2, 2]


def test_a_request_waits_for_others_no_longer_than_it_may():
    now = [0.0]
    batcher = Batcher(Model(), BatchSettings(wait=5.0), clock=lambda: now[0])
    batcher._members, batcher._waiting = 2, [(0.0, None)]
    assert batcher._patience() == 0.005
    now[0] = 0.005
    assert batcher._patience() == 0
    batcher._members, now[0] = 1, 0.0
    assert batcher._patience() == 0  # alone: it waits for nobody


def test_a_request_that_fails_does_so_alone():
    batcher = Batcher(Model(), BatchSettings(wait=20_000))
    bad = {"x": np.full((2, 2), 13.0, np.float32)}
    answers, threads = asked(batcher, [batcher.client() for _ in range(3)], bad)
    for thread in threads:
        thread.join(20)
    assert isinstance(answers[0], ZeroDivisionError)
    assert [answer["action"][0, 0] for answer in answers[1:]] == [1.0, 1.0]


def test_one_request_too_many_is_refused_and_may_be_asked_again():
    model = Model(held=True)
    batcher = Batcher(model, BatchSettings(size=1, max_waiting=2))
    first, second, third, fourth = (batcher.client() for _ in range(4))
    _, threads = asked(batcher, [first])
    assert model.began.wait(20)  # `first` is being computed: it no longer waits
    threads += asked(batcher, [second, third])[1]
    wait_until(lambda: len(batcher._waiting) == 2)
    with pytest.raises(Overloaded, match=r"busy: 2 requests wait already"):
        fourth(Ticket(1, 0, 0.0, 0), OBSERVATION)
    model.may.set()
    for thread in threads:
        thread.join(20)
    said = read_answer(error_message(Ticket(1, 0, 0.0, 0), "busy", lost=True), 0.1)
    assert said == Result(Ticket(1, 0, 0.0, 0), None, 0.1, "the server: busy", lost=True)


def policy_of(model, fingerprint="old", spec=SPEC, **settings):
    batcher = Batcher(model, BatchSettings(**settings))
    return ServedPolicy(Schema(spec, {}, fingerprint), batcher.client, batcher=batcher)


def test_weights_are_exchanged_under_a_client_that_stays_connected():
    policy = policy_of(Model(1.0))
    with running(policy) as server, plain_client(server.address) as client:
        before = ask(client, a_request(1))["actions"][0, 0]
        swap(policy, Schema(SPEC, {}, "new"), Model(2.0))
        after = ask(client, a_request(2))["actions"][0, 0]
    assert (before, after) == (1.0, 2.0)


def test_a_client_of_the_old_weights_may_come_back_and_one_of_others_may_not():
    policy = policy_of(Model())
    old = read_greeting(greeting(policy.schema, 1))
    swap(policy, Schema(SPEC, {}, "new"), Model())
    came_back = read_greeting(greeting(policy.schema, 1))
    assert came_back.follows(old)
    assert not old.follows(came_back)
    assert not came_back.follows(replace(old, fingerprint="another"))


def test_weights_of_a_policy_that_sees_something_else_are_kept_out():
    policy, said = policy_of(Model()), []
    other = Schema(type(SPEC)({"y": (2,)}, 2, SPEC.window), {}, "new")
    with pytest.raises(ConfigError, match="sees or does something else"):
        swap(policy, other, Model())

    async def look():
        return await Swapper(policy, lambda _: (other, Model()), said.append).look()

    assert asyncio.run(look()) is False
    assert said[0].startswith("weights: kept, because")
    assert policy.schema.fingerprint == "old"


def test_a_watch_says_once_why_weights_are_kept_out_and_whoever_asks_hears_it_again():
    said = []

    def newest(_):
        raise ConfigError("it is damaged")

    async def looks():
        swapper = Swapper(policy_of(Model()), newest, said.append)
        for quiet in (True, True, False):
            await swapper.look(quiet=quiet)

    asyncio.run(looks())
    assert said == ["weights: kept, because it is damaged"] * 2


def test_a_client_asks_for_a_policy_by_name():
    policies = {"": policy_of(Model(1.0)), "towel": policy_of(Model(2.0))}
    with running(policies) as server:
        found = []
        for query in ("", "?policy=towel"):
            with plain_client(f"{server.address}/arm{query}") as client:
                found.append(ask(client, a_request())["actions"][0, 0])
        with pytest.raises(InvalidStatus) as caught, plain_client(f"{server.address}?policy=cup"):
            pass
    assert found == [1.0, 2.0]
    assert caught.value.response.status_code == 404
    assert b"no policy 'cup'; known: towel" in caught.value.response.body


@pytest.mark.slow
def test_a_policys_rows_are_those_of_one_request_after_another():
    import torch

    from dipole.deploy.inference.torch_policy import PolicyCompute
    from dipole.deploy.server.load import BatchedPolicy

    class Noisy:
        window = SPEC.window

        def predict(self, observation, generator):
            drawn = [torch.randn(16, 2, generator=g) for g in generator]
            return torch.stack(drawn) + observation["x"].mean((1, 2))[:, None, None]

    model, tickets = BatchedPolicy(Noisy(), 5, 16), [Ticket(1, e, 0.0, 0) for e in (1, 1, 2)]
    seen = [{"x": np.full((2, 2), value, np.float32)} for value in range(3)]
    rows = [Row(t, s, {}, model.noise()) for t, s in zip(tickets, seen, strict=True)]
    together = model.compute(rows)
    for ticket, one, answer in zip(tickets, seen, together, strict=True):
        alone = PolicyCompute(Noisy(), 5)(ticket, one)
        assert np.array_equal(answer["action"], alone["action"])
    assert Request(tickets[0], seen[0]).known == {}

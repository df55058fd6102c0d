"""What a client is asked of a policy server, and the answers it brings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from real_server import OBSERVATION, SPEC, wait_until

from dipole.deploy.types import Request, Ticket
from dipole.deploy.wire.protocol import Schema, greeting

GREETING = greeting(Schema(SPEC), 2**25)


def request(number, epoch=0):
    return Request(Ticket(number, epoch, 0.0, 0), OBSERVATION)


def answer(inference, seconds=20.0):
    found = []
    wait_until(lambda: found.append(inference.poll()) or found[-1] is not None, seconds)
    return found[-1]

"""A served policy's weights, exchanged for newer ones while clients stay connected."""

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import replace

from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy.server.batching import BatchModel
from dipole.deploy.server.session import ServedPolicy
from dipole.deploy.wire.protocol import Schema

# (schema, model), or None where nothing is newer than what has this fingerprint.
Newest = Callable[[str], tuple[Schema, BatchModel] | None]
REMEMBERED = 100  # fingerprints that clients may have known


def swap(policy: ServedPolicy, schema: Schema, model: BatchModel) -> None:
    """Serve these weights from the next batch on.

    Raises ConfigError where they see or do something else, which clients could not follow.
    """
    mine = policy.schema
    if (schema.spec, schema.dtypes) != (mine.spec, mine.dtypes):
        raise ConfigError(
            "the newer checkpoint sees or does something else than the one that is served (names, "
            "shapes, units, rate or window): serve it by a server, or a name, of its own"
        )
    if policy.batcher is None:
        raise ConfigError("this policy is not computed in batches: its weights cannot be exchanged")
    policy.batcher.swap(model)
    known = (*mine.replaced, mine.fingerprint)[-REMEMBERED:]
    policy.schema = replace(schema, replaced=known)


class Swapper:
    """Looks for newer weights when asked to, one look at a time, beside the server's event loop."""

    def __init__(
        self, policy: ServedPolicy, newest: Newest, log: Callable[[str], None], name: str = ""
    ) -> None:
        self._policy, self._newest, self._log = policy, newest, log
        self._name = f" of {name!r}" if name else ""
        self._looking = asyncio.Lock()
        self._problem = ""  # of the last look: one that goes on is said once

    async def look(self, *, quiet: bool = False) -> bool:
        """Whether there were newer ones. Whatever fails is logged, and the old ones go on.

        quiet: Say nothing where there are none.
        """
        async with self._looking:
            try:
                found = await asyncio.to_thread(self._newest, self._policy.schema.fingerprint)
                if found is None:
                    if not quiet:
                        self._log(f"weights{self._name}: nothing newer")
                    return False
                swap(self._policy, *found)
            except DipoleError as error:
                self._complain(f"kept, because {error}", quiet)
                return False
            except Exception:
                self._complain(f"kept\n{traceback.format_exc()}", quiet)
                return False
            self._problem = ""
            self._log(f"weights{self._name}: exchanged, now {found[0].fingerprint[:12]}")
            return True

    def _complain(self, problem: str, quiet: bool) -> None:
        if not quiet or problem != self._problem:
            self._log(f"weights{self._name}: {problem}")
        self._problem = problem

    async def watch(self, seconds: float) -> None:
        """Look every so many seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self.look(quiet=True)

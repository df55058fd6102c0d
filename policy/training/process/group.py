"""The processes that train one run together: what they tell each other beside gradients.

They meet in rounds, each of them in the same order: a few numbers from each to all, on the
processor. Every round also says whether a process has failed, so that the error of one, wherever it
occurs between two rounds, is the error of all, with its text; and a process that does not come is
named. Alone, nothing is sent and nothing costs anything.
"""

import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from dipole.data.core.errors import DipoleError
from dipole.policy.training.process.rank import Rank
from dipole.policy.training.process.whereabouts import Whereabouts

T = TypeVar("T")
FOREVER = timedelta(
    days=365
)  # of what one process does alone: an evaluation takes as long as it does
CONNECTING = timedelta(seconds=60)  # between the first and the last process that comes
BACKENDS = ("gloo", "NCCL")  # of which an error's message tells
NUMBERS = 2  # of each process in a round, beside whether it failed and whether it is to stop


class OtherRankError(DipoleError):
    """Another process of the run failed; the message is its own."""


class LostRankError(DipoleError):
    """Another process of the run ended, or does not answer."""


@dataclass(frozen=True)
class _Channels:
    """quick: Rounds within the time-out. patient: Rounds in which one process is waited for."""

    quick: Any
    patient: Any
    whereabouts: Whereabouts | None
    seconds: float


class Group:
    """rank: Of this process in the group.

    asked: The signal that this process was sent, or 0; told to all in every round.
    signal: The signal that any process was sent, as the last round said: the same in all of them.
    """

    def __init__(self, rank: Rank | None = None, channels: _Channels | None = None) -> None:
        self.rank = rank or Rank()
        self._channels = channels
        self._rounds = 0
        self.asked: Callable[[], int] = lambda: 0
        self.signal = 0

    @classmethod
    def current(cls) -> "Group":
        """The group that this process has joined; one of this process alone where it has not."""
        return _current[-1] if _current else cls()

    @classmethod
    def of_all(cls, seconds: float, whereabouts: Whereabouts | None = None) -> "Group":
        """Of all processes of torch.distributed, which has begun.

        seconds: After which a process that does not come to a round is missing.
        """
        rank = Rank.current()
        if not rank.is_one_of_several:
            return cls(rank)
        quick, patient = (_new_group(each) for each in (timedelta(seconds=seconds), FOREVER))
        return cls(rank, _Channels(quick, patient, whereabouts, seconds))

    @property
    def is_alone(self) -> bool:
        return self._channels is None

    def round(self, *numbers: float, patient: bool = False) -> list[list[float]]:
        """What each process gave, by rank; at most two numbers.

        patient: Whether the others may take as long as they like.
        Raises OtherRankError where one of them failed, LostRankError where one ended or hangs.
        """
        if self.is_alone:
            return [list(numbers)]
        found = self._exchange([0, self.asked(), *numbers], patient)
        if any(each[0] for each in found):
            self._raise(self._texts("", patient))
        self.signal = int(max(each[1] for each in found))
        return [each[2 : 2 + len(numbers)] for each in found]

    @contextmanager
    def together(self, patient: bool = False, collectives: bool = False) -> Iterator[None]:
        """An error of this process within it is told to all others, in the round that they are in
        or come to next.

        patient: Whether that round is a patient one.
        collectives: Whether processes wait for each other within it outside of rounds, as for
            shards of weights. Then no other comes to a round: this process leaves its error where
            the others find it when their connections to it end with it.
        """
        try:
            yield
        except (OtherRankError, LostRankError):
            raise
        except Exception as error:
            if not self.is_alone:
                if _is_of_connection(error):
                    raise self._lost(str(error)) from error
                (self._leave if collectives else self._tell)(error, patient)
            raise

    def from_main(self, make: Callable[[], T]) -> T:
        """What the first process makes, as JSON can hold it; the others wait for it."""
        if self.is_alone:
            return make()
        made = ""
        with self.together(patient=True):
            if self.rank.is_main:
                made = json.dumps(make())
            self.round(patient=True)
        found: T = json.loads(self._texts(made, patient=True)[0])
        return found

    def gather(self, value: Any) -> list[Any]:
        """What each process gives, by rank, as JSON can hold it."""
        if self.is_alone:
            return [value]
        with self.together():
            own = json.dumps(value)
            self.round()
        return [json.loads(text) for text in self._texts(own, patient=False)]

    def add(self, value: Tensor) -> Tensor:
        """The sum of a scalar over all processes, on its device."""
        if self.is_alone:
            return value
        total = sum(each[0] for each in self.round(float(value)))
        return torch.as_tensor(total, dtype=value.dtype, device=value.device)

    def _leave(self, error: Exception, _patient: bool) -> None:
        """Of an error of this process, which ends the connections that others wait at."""
        where = self._channels.whereabouts if self._channels else None
        if where is not None:
            where.leave_error(_text(error))

    def _tell(self, error: Exception, patient: bool) -> None:
        """Of an error of this process."""
        try:
            self._exchange([1], patient)
            self._texts(_text(error), patient)
        except LostRankError as lost:
            error.add_note(f"the other processes could not be told: {lost}")

    def _raise(self, texts: Sequence[str]) -> None:
        raise _failed(dict(enumerate(texts)))

    def _texts(self, text: str, patient: bool) -> list[str]:
        encoded = text.encode()
        longest = int(max(each[0] for each in self._exchange([len(encoded)], patient)))
        if not longest:
            return [""] * self.rank.count
        padded = torch.frombuffer(bytearray(encoded.ljust(longest, b"\0")), dtype=torch.uint8)
        return [
            bytes(each.tolist()).rstrip(b"\0").decode() for each in self._gathered(padded, patient)
        ]

    def _exchange(self, numbers: Sequence[float], patient: bool) -> list[list[float]]:
        padded = [*numbers, *[0] * (2 + NUMBERS - len(numbers))]
        own = torch.tensor(padded, dtype=torch.float64)
        return [each.tolist() for each in self._gathered(own, patient)]

    def _gathered(self, own: Tensor, patient: bool) -> list[Tensor]:
        assert self._channels is not None
        channel = self._channels.patient if patient else self._channels.quick
        found = [torch.empty_like(own) for _ in range(self.rank.count)]
        self._rounds += 1
        where = self._channels.whereabouts
        if where is not None:
            where.waits_in = self._rounds
        try:
            distributed.all_gather(found, own, group=channel)
        except RuntimeError as error:
            raise self._lost(str(error)) from error
        if where is not None:
            where.waits_in = None
        return found

    def _lost(self, reason: str) -> LostRankError | OtherRankError:
        channels = self._channels
        assert channels is not None
        where = channels.whereabouts
        left = {} if where is None else where.errors()
        if left:
            return _failed(left)
        found = [] if where is None else where.of_others(self._rounds)
        late = "timed out" in reason.lower() or "timeout" in reason.lower()
        what = f"within {channels.seconds:g} s (train.rank_timeout)" if late else "any more"
        named = "\n".join(found) or "which of them is not known"
        return LostRankError(
            f"rank {self.rank.index}: the other processes do not all answer {what}, at exchange "
            f"{self._rounds}:\n{named}"
        )


def _failed(texts: Mapping[int, str]) -> OtherRankError:
    failed = [f"rank {rank} failed: {text}" for rank, text in texts.items() if text]
    return OtherRankError("\n".join(failed))


def _text(error: Exception) -> str:
    """For others: an error's message, or its traceback where it is a defect."""
    if isinstance(error, DipoleError):
        return f"{error}"
    return "".join(traceback.format_exception(error)).rstrip()


def _is_of_connection(error: Exception) -> bool:
    """Whether torch.distributed says that another process does not answer."""
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in BACKENDS)


def _new_group(timeout: timedelta) -> Any:
    """Connecting has a time-out of its own: gloo now and then waits for a connection that nobody
    makes, for five times the time-out it is given."""
    made = distributed.new_group(backend="gloo", timeout=CONNECTING)
    set_timeout(timeout, made)
    return made


def set_timeout(timeout: timedelta, group: Any = None) -> None:
    """Of a group of torch.distributed's, None for that of all processes, from now on."""
    own: Any = distributed.distributed_c10d
    own._set_pg_timeout(timeout, group)


_current: list[Group] = []


@contextmanager
def joined(group: Group) -> Iterator[Group]:
    """Meanwhile `Group.current()` is this one."""
    _current.append(group)
    try:
        yield group
    finally:
        _current.pop()

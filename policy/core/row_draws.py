"""Random numbers of a batch whose rows several processes share: the same as one process draws.

    one process      rand(8): r0 r1 r2 r3 r4 r5 r6 r7
    rank 0 of 2      rand(4): r0    r2    r4    r6       drawn: all 8, from the same generator
    rank 1 of 2      rand(4):    r1    r3    r5    r7

While `RowDraws` is entered, a draw whose first dimension is this process's rows, or that many times
some number (the frames of each row, one after another), is made for the rows of all processes, and
this one takes its own. Every other draw is the same in all processes. What does not come through
torch's functions in Python has a stream of its own in each process: masks that are drawn inside an
operation (dropout within attention), numpy's and Python's generators.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

FACTORIES = (torch.rand, torch.randn, torch.randint)
LIKE = {
    torch.rand_like: Tensor.uniform_,
    torch.randn_like: Tensor.normal_,
    torch.randint_like: Tensor.random_,
}
IN_PLACE = (
    Tensor.uniform_,
    Tensor.normal_,
    Tensor.random_,
    Tensor.bernoulli_,
    Tensor.exponential_,
    Tensor.log_normal_,
)
OTHERS = (torch.randperm,)
GAMMAS = (torch._standard_gamma,)
DROPOUTS = (F.dropout, torch.dropout)
Sum = Callable[[Tensor], Tensor]

_active: "list[RowDraws]" = []


class RowDraws(TorchFunctionMode):
    """rank, ranks: This process has rows rank, rank + ranks, ... of each batch.

    total: Rows of a batch, over all processes.
    seed: Of the numbers that processes share.
    add: The sum of a tensor over the processes.
    """

    def __init__(self, rank: int, ranks: int, total: int, seed: int, add: Sum) -> None:
        super().__init__()
        self.rank, self.ranks, self.total, self.seed, self.add = rank, ranks, total, seed, add
        self.rows = len(range(rank, total, ranks))
        self.same_for_all = False
        self._generators: dict[torch.device, torch.Generator] = {}

    def __enter__(self) -> "RowDraws":
        _active.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _active.remove(self)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile nothing is looked at: it costs some microseconds an operation."""
        super().__exit__(None, None, None)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            super().__enter__()  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        draw = _DRAWS.get(func)
        if draw is None or given.get("generator") is not None:
            return func(*args, **given)
        return draw(self, func, list(args), given)

    def _generator(self, device: Any) -> torch.Generator:
        device = torch.get_default_device() if device is None else torch.device(device)
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]

    def _whole(self, shape: Sequence[int]) -> list[int] | None:
        """The shape of all processes' draw; None where this one is no draw of rows."""
        if self.same_for_all or not shape or not shape[0] or shape[0] % self.rows:
            return None
        return [shape[0] // self.rows * self.total, *shape[1:]]

    def _own(self, whole: Tensor) -> Tensor:
        """This process's rows of all."""
        by_row = whole.view(self.total, -1, *whole.shape[1:])
        return by_row[self.rank :: self.ranks].flatten(0, 1).contiguous()

    def _create(self, func: Any, args: list[Any], given: dict[str, Any]) -> Tensor:
        """rand(*shape), randn(*shape), randint([low,] high, shape)."""
        size = given.pop("size", None)
        if size is None and func is torch.randint:
            size = args.pop()
        elif size is None:
            size = args[0] if args and not isinstance(args[0], int) else args
            args = []
        whole = self._whole([int(n) for n in size])
        generator = self._generator(given.get("device"))
        drawn: Tensor = func(
            *args, size=size if whole is None else whole, generator=generator, **given
        )
        if whole is None:
            return drawn
        needs = given.get("requires_grad", False)
        return self._own(drawn.detach()).requires_grad_(needs)

    def _create_like(self, func: Any, args: list[Any], given: dict[str, Any]) -> Tensor:
        like = args.pop(0) if args else given.pop("input")
        needs = given.pop("requires_grad", False)
        drawn = torch.empty_like(like, **given)
        if func is torch.randint_like and len(args) == 1:
            args = [0, *args]
        return self._fill(LIKE[func], [drawn, *args], {}).requires_grad_(needs)

    def _fill(self, func: Any, args: list[Any], given: dict[str, Any]) -> Tensor:
        """x.normal_(...) and the like."""
        target, *rest = args
        whole = self._whole(target.shape)
        generator = self._generator(target.device)
        filled: Tensor
        if whole is None or any(isinstance(each, Tensor) for each in rest):
            filled = func(target, *rest, **{**given, "generator": generator})
            return filled
        layout = torch.contiguous_format
        if target.dim() == 4 and not target.is_contiguous():
            layout = torch.channels_last
        large = torch.empty(whole, dtype=target.dtype, device=target.device, memory_format=layout)
        func(large, *rest, **{**given, "generator": generator})
        with torch.no_grad():
            target.copy_(self._own(large))
        filled = target
        return filled

    def _any(self, func: Any, args: list[Any], given: dict[str, Any]) -> Any:
        return func(*args, **{**given, "generator": self._generator(given.get("device"))})

    def _gamma(self, func: Any, args: list[Any], given: dict[str, Any]) -> Tensor:
        """_standard_gamma(alpha). A draw takes as many numbers as alpha asks for: rows are those of
        one process where alpha is the same for all of them."""
        alpha: Tensor = args[0]
        whole, generator = self._whole(alpha.shape), self._generator(alpha.device)
        if whole is None:
            drawn: Tensor = func(alpha, generator=generator)
            return drawn
        own = alpha.reshape(self.rows, -1, *alpha.shape[1:])
        large = own[:1].repeat(self.total, *[1] * alpha.dim())
        large[self.rank :: self.ranks] = own
        return self._own(func(large.flatten(0, 1), generator=generator))

    def _drop(self, func: Any, args: list[Any], given: dict[str, Any]) -> Tensor:
        """dropout(x, p, train): as torch computes it on a processor."""
        names = ("input", "p", "training", "inplace")
        renamed = {"training" if key == "train" else key: value for key, value in given.items()}
        found = dict(zip(names, args, strict=False)) | renamed
        x: Tensor = found["input"]
        p: float = found.get("p", 0.5)
        if not found.get("training", True) or p == 0:
            return x
        kept = self._fill(Tensor.bernoulli_, [torch.empty_like(x), 1 - p], {})
        kept = kept.div_(1 - p) if p < 1 else kept
        return x.mul_(kept) if found.get("inplace") else x * kept


_DRAWS: dict[Any, Callable[[RowDraws, Any, list[Any], dict[str, Any]], Any]] = {
    **dict.fromkeys(FACTORIES, RowDraws._create),
    **dict.fromkeys(LIKE, RowDraws._create_like),
    **dict.fromkeys(IN_PLACE, RowDraws._fill),
    **dict.fromkeys(OTHERS, RowDraws._any),
    **dict.fromkeys(GAMMAS, RowDraws._gamma),
    **dict.fromkeys(DROPOUTS, RowDraws._drop),
}


@contextmanager
def same_for_all_rows() -> Iterator[None]:
    """What is drawn meanwhile does not belong to rows, whatever its first dimension is."""
    before = [each.same_for_all for each in _active]
    for each in _active:
        each.same_for_all = True
    try:
        yield
    finally:
        for each, value in zip(_active, before, strict=True):
            each.same_for_all = value


def no_draws() -> AbstractContextManager[None]:
    """For what draws no random numbers, and has many operations."""
    return _active[-1].paused() if _active else nullcontext()


def mean_divisor(count: Tensor) -> Tensor:
    """What a sum over the numbers of this process's rows that count is divided by, so that the
    mean of several processes, weighed by their rows, is the mean over all numbers that count.

    count: How many of this process's count, a scalar; alone, the divisor is `count`, at least 1.
    """
    if not _active:
        return count.clamp(min=1)
    rows = _active[-1]
    return rows.add(count).clamp(min=1) * (rows.rows / rows.total)


def squared_length(gradient: Tensor) -> Tensor:
    """Of the gradient of a batch's loss at what a network gave its rows, over the rows of all
    processes; a scalar.

    gradient: Of this process's loss, which the loss of all weighs by its rows, [B, ...].
    """
    square = gradient.square().sum()
    if not _active:
        return square
    rows = _active[-1]
    return rows.add(square * (rows.rows / rows.total) ** 2)


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a batch, over all processes.

    here: How many of this process's rows are among them.
    total: How many there are.
    weight: Of a mean over `here`, so that the mean of several processes, weighed by their rows, is
        the mean over `total`.
    """

    here: int
    total: int
    weight: float = 1.0

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Meanwhile a draw of `here` rows is made for `total`, and `mean_divisor` is over them."""
        before = [(each.rows, each.total) for each in _active]
        for each in _active:
            each.rows, each.total = self.here, self.total
        try:
            yield
        finally:
            for each, (rows, total) in zip(_active, before, strict=True):
                each.rows, each.total = rows, total


def first_rows(share: float, rows: int) -> FirstRows:
    """A share of a batch's rows, rounded up or down by chance, so that it is right on average; of
    each of several processes at least one, unless the share is 0.

    rows: Of this process.
    """
    chance = float(torch.rand(()))  # in all processes the same
    if not _active:
        count = int(share * rows + chance)
        return FirstRows(count, count)
    every = _active[-1]
    total = max(int(share * every.total + chance), every.ranks if share else 0)
    here = len(range(every.rank, total, every.ranks))
    return FirstRows(here, total, here / max(total, 1) * every.total / every.rows)

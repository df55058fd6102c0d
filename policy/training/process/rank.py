"""Which of the processes that train one run together this one is."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rank:
    """index: This process's number, from 0. count: How many processes train the run.

    The first one alone writes to the run's folder, validates, evaluates and prints.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"rank {self.index} of {self.count}: ranks count from 0")

    @property
    def is_main(self) -> bool:
        return self.index == 0

    @property
    def is_one_of_several(self) -> bool:
        return self.count > 1

    @classmethod
    def current(cls) -> "Rank":
        """As torch.distributed says; alone where it is not in use."""
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

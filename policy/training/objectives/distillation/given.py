"""A batch as methods of distillation take it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dipole.policy.context import Context
from dipole.policy.heads.base import ChunkBatch


@dataclass(frozen=True)
class Given:
    """chunks: Demonstrated ones, normalised, with what of them counts.

    context: Of the same rows, for the student.
    of_teacher: For the teacher, whose encoder stays as it is where the student's is trained;
        otherwise the same.
    unconditional: `of_teacher` without what the teacher's classifier-free guidance leaves out;
        None: it is not guided.
    """

    chunks: ChunkBatch
    context: Context
    of_teacher: Context
    unconditional: Context | None = None

    @property
    def clean(self) -> Tensor:
        """[B, H, A]."""
        return self.chunks.actions

    @property
    def counted(self) -> Tensor | None:
        """bool [B, H, A]; None: all."""
        return self.chunks.counted

    def filled(self, chunk: Tensor) -> Tensor:
        """A student's chunk [B, H, A] as another network may see it: what does not count is the
        demonstrated one's, since no loss says what a student makes of it."""
        return chunk if self.counted is None else torch.where(self.counted, chunk, self.clean)

    def contexts_of(self, which: slice) -> "Given":
        """With the contexts of some rows; the chunks stay those of all."""
        without = self.unconditional
        return Given(
            self.chunks,
            self.context.rows_of(which),
            self.of_teacher.rows_of(which),
            None if without is None else without.rows_of(which),
        )

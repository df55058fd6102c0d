"""Checkpoints written in a thread, from a copy of what they hold, while training goes on."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dipole.policy.checkpoint import Checkpoint, prune_checkpoints, save_checkpoint


class CheckpointWriter:
    """Of one run, one checkpoint at a time.

    keep: How many of the newest stay.
    background: Whether `write` returns before the checkpoint is there. The copy takes as much
        memory as the checkpoint.
    written: Called after each checkpoint that is whole, perhaps in the thread.
    """

    def __init__(self, run: Path, keep: int, background: bool) -> None:
        self.run, self.keep, self.background = run, keep, background
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self.written: Callable[[], None] = lambda: None

    def write(self, step: int, make: Callable[[], Checkpoint], is_copy: bool = False) -> None:
        """RUN/checkpoints/STEP, after the one before it is whole. Raises what that one's writing
        raised.

        is_copy: Whether what is made shares no memory with what is trained.
        """
        self.wait()
        folder = self.run / "checkpoints" / f"{step:08d}"
        checkpoint = make()
        if not self.background:
            return self._write(folder, checkpoint)
        if not is_copy:
            checkpoint = replace(checkpoint, tensors=copied(checkpoint.tensors))
        self._thread = threading.Thread(
            target=self._write_or_note, args=(folder, checkpoint), name="checkpoint"
        )
        self._thread.start()
        return None

    def wait(self) -> None:
        """Until what was begun is written. Raises what its writing raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, folder: Path, checkpoint: Checkpoint) -> None:
        save_checkpoint(folder, checkpoint)
        prune_checkpoints(self.run, self.keep)
        self.written()

    def _write_or_note(self, folder: Path, checkpoint: Checkpoint) -> None:
        try:
            self._write(folder, checkpoint)
        except Exception as error:
            self._error = error


def copied(files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """In the processor's memory, sharing none with what is trained."""
    with torch.no_grad():
        return {
            stem: {
                name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
                for name, tensor in tensors.items()
            }
            for stem, tensors in files.items()
        }

"""The whole sampling program as one CUDA graph: a chunk is one launch, and no Python between steps.

Nothing is written: a graph belongs to the process and the GPU that captured it. Not yet run on a
GPU; that nothing in it waits for the host or lies on the processor is tested without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dipole.policy.runtimes.program import SamplingProgram
from dipole.policy.runtimes.runtime import batch_size_of

NAME = "cuda_graph"
WARM_UP = 3  # runs before the capture, in which libraries choose and allocate


@dataclass(frozen=True)
class _Captured:
    """graph: reads inputs and writes output, where they lie on the device."""

    graph: Any
    inputs: tuple[Tensor, ...]
    output: Tensor


class CudaGraphs:
    """Arrays in the order of the program's inputs, all of one batch size -> the chunk [B, H, A].

    Each batch size is captured when it is first seen. Waits for the device once, for the chunk.
    """

    def __init__(self, program: SamplingProgram, device: torch.device) -> None:
        self._program, self._device = program.to(device), device
        self._by_batch_size: dict[int, _Captured] = {}

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        batch_size = batch_size_of(arrays, self._program.inputs)
        if batch_size not in self._by_batch_size:
            self._by_batch_size[batch_size] = self._capture(batch_size)
        captured = self._by_batch_size[batch_size]
        for own, given in zip(captured.inputs, arrays, strict=True):
            own.copy_(torch.from_numpy(given))
        captured.graph.replay()
        chunk: np.ndarray = captured.output.cpu().numpy()
        return chunk

    @torch.no_grad()
    def _capture(self, batch_size: int) -> _Captured:
        inputs = tuple(each.to(self._device) for each in self._program.examples(batch_size))
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._program(*inputs)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self._program(*inputs)
        return _Captured(graph, inputs, output)

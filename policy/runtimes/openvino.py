"""OpenVINO, on CPUs: converted straight from PyTorch, without a compiler where it runs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dipole.policy.core.timing import least_seconds
from dipole.policy.runtimes.int8_weights import with_int8_weights
from dipole.policy.runtimes.program import BATCH, Port, SamplingProgram
from dipole.policy.runtimes.runtime import PARITY, RUNTIMES, Run, batch_size_of
from dipole.policy.runtimes.signal_stack import kept_signal_stack

MODEL = "model.xml"
TRIALS = 3  # chunks by which the number of threads is chosen, after one that does not count
LOW_PRECISION = 0.3  # of a normalised action, between a policy and its chunks in eight bits


class OpenVino:
    """Any batch size; each is compiled for itself when it is first seen, which takes seconds."""

    library: str = "openvino"
    extra: str | None = "openvino"
    native: bool = False

    def __init__(
        self, precision: str = "f32", tolerance: float = PARITY, int8_weights: bool = False
    ) -> None:
        self.precision, self.tolerance = precision, tolerance
        self.int8_weights = int8_weights

    def write(self, program: SamplingProgram, folder: Path, batch_sizes: Sequence[int]) -> None:
        import openvino

        from dipole.policy.runtimes.openvino_model import as_model

        model = as_model(program)
        for port, node in zip(program.inputs, model.inputs, strict=True):
            node.get_tensor().set_names({port.name})
        if self.int8_weights:
            with_int8_weights(model)
        openvino.save_model(model, folder / MODEL, compress_to_fp16=False)

    def load(self, folder: Path, inputs: Sequence[Port], threads: int) -> Run:
        return _Requests(folder / MODEL, inputs, threads, self.precision)


class _Requests:
    """One compiled model and inference request for each batch size seen so far.

    It computes on one core or on `threads` of them, whichever is faster, tried out: two are slower
    for a small network. The bits are the same.
    """

    def __init__(self, path: Path, inputs: Sequence[Port], threads: int, precision: str) -> None:
        self._path, self._inputs = path, inputs
        self._threads, self._precision = threads, precision
        self._by_batch_size: dict[int, Any] = {}

    def __call__(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        batch_size = batch_size_of(arrays, self._inputs)
        if batch_size not in self._by_batch_size:
            with kept_signal_stack():
                self._by_batch_size[batch_size] = self._fastest(batch_size)
        request = self._by_batch_size[batch_size]
        return np.array(request.infer(list(arrays))[0])

    def _fastest(self, batch_size: int) -> Any:
        counts = dict.fromkeys((1, self._threads))
        requests = {count: self._request(batch_size, count) for count in counts}
        if len(requests) == 1:
            return requests[1]
        arrays = [port.example(batch_size).numpy() for port in self._inputs]
        calls = {count: partial(request.infer, arrays) for count, request in requests.items()}
        seconds = least_seconds(calls, TRIALS)
        return requests[min(seconds, key=lambda count: seconds[count])]

    def _request(self, batch_size: int, threads: int) -> Any:
        import openvino

        core = openvino.Core()
        model = core.read_model(self._path)
        shapes = [
            [batch_size if size == BATCH else size for size in port.shape] for port in self._inputs
        ]
        model.reshape(dict(enumerate(shapes)))
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": self._precision,
            },
        )
        return compiled.create_infer_request()


RUNTIMES.add("openvino")(OpenVino())
# Chunks of these two are a few hundredths apart from the policy's: compare the scores
# (docs/performance.md). Weights and products of 8 bits of mantissa, where the processor has them:
RUNTIMES.add("openvino_bf16")(OpenVino("bf16", tolerance=LOW_PRECISION))
# Weights of 8 bits, for networks that are larger than the processor's caches.
RUNTIMES.add("openvino_int8")(OpenVino(tolerance=LOW_PRECISION, int8_weights=True))

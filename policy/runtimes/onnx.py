"""ONNX, run by ONNX Runtime on a CPU; the file suits any other runtime that reads ONNX."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dipole.policy.runtimes.program import Port, SamplingProgram
from dipole.policy.runtimes.runtime import PARITY, RUNTIMES, Run

MODEL = "model.onnx"
OPSET = 18


class Onnx:
    """Any batch size."""

    library: str = "onnxruntime"
    extra: str | None = "onnx"
    native: bool = False
    tolerance: float = PARITY

    def write(self, program: SamplingProgram, folder: Path, batch_sizes: Sequence[int]) -> None:
        import onnx  # noqa: F401  torch's exporter needs it

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                program,
                program.examples(batch_size=2),
                str(folder / MODEL),
                # The newer exporter needs onnxscript, and unrolls to the same graph more slowly.
                dynamo=False,
                opset_version=OPSET,
                input_names=[port.name for port in program.inputs],
                output_names=[program.output.name],
                dynamic_axes={
                    port.name: {port.batch_axis: "batch"}
                    for port in (*program.inputs, program.output)
                },
            )

    def load(self, folder: Path, inputs: Sequence[Port], threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only
        session = onnxruntime.InferenceSession(
            str(folder / MODEL),
            options,
            providers=["CPUExecutionProvider"],
            # ONNX Runtime 1.32 pushes the turned axes of attention to and fro for ever.
            disabled_optimizers=["TransposeOptimizer"],
        )

        def run(arrays: Sequence[np.ndarray]) -> np.ndarray:
            given = {port.name: array for port, array in zip(inputs, arrays, strict=True)}
            return np.asarray(session.run(None, given)[0])

        return run


RUNTIMES.add("onnx")(Onnx())

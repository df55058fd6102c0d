"""A sampling loop as OpenVINO's model: one step, converted once, in a loop of OpenVINO's own.

Unrolled, ten steps took ten times as long to convert and to compile, to run 5 % faster.
"""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dipole.data.core.environ import environment_variables
from dipole.policy.runtimes.sampling_loop import (
    NOISE,
    AfterSteps,
    BeforeSteps,
    OneStep,
    SamplingLoop,
    diffusion_head,
    step_rows,
)

ROWS = 2  # of the examples that are traced


def as_model(loop: SamplingLoop) -> Any:
    """An openvino.Model with the inputs of the loop, in their order, any batch size."""
    import openvino
    from openvino import opset13

    examples = dict(zip([port.name for port in loop.inputs], loop.examples(ROWS), strict=True))
    x = examples[NOISE]
    before, head = BeforeSteps(loop), diffusion_head(loop.policy)
    given = [examples[port.name] for port in before.inputs]
    with torch.no_grad():
        needed = before(*given)
    n_fresh = int(loop.n_fresh > 0)
    fresh, table = needed[:n_fresh], needed[n_fresh:]
    sliced = [step_rows(loop.table), *fresh, *loop.time_table]  # [S, ...] each, a row for a step
    axes = [None, *[1] * n_fresh, *[None] * len(loop.time_table)]  # of the batch, among these
    first_rows = [rows[:1] for rows in sliced]

    start = _converted(before, given, [port.batch_axis for port in before.inputs])
    with torch.no_grad():
        context = head.denoiser.prepare_context(
            loop.encode({port.name: examples[port.name] for port in before.inputs})
        )
    one_step = OneStep(loop, context)
    step = _converted(one_step, [x, *first_rows, *table], [0, *axes, *[0] * len(table)])
    end = _converted(AfterSteps(loop), [x], [0])

    noise = opset13.parameter([-1, *x.shape[1:]], np.float32)
    scale = np.float32(head.process.start_scale(loop.table[0].level))
    begin = opset13.multiply(noise, opset13.constant(scale))
    made = [result.input_value(0) for result in start.get_results()]
    rows_of = [
        opset13.constant(rows.numpy()).output(0) if axis is None else made[0]
        for rows, axis in zip(sliced, axes, strict=True)
    ]
    steps = opset13.tensor_iterator()
    steps.set_body(step)
    body_x, *body_rest = step.get_parameters()
    next_x = step.get_results()[0].output(0)
    steps.set_merged_input(body_x, begin.output(0), next_x)
    for parameter, rows in zip(body_rest, rows_of, strict=False):
        steps.set_sliced_input(parameter, rows, 0, 1, 1, -1, 0)
    for parameter, value in zip(body_rest[len(rows_of) :], made[n_fresh:], strict=True):
        steps.set_invariant_input(parameter, value)
    last = steps.get_iter_value(next_x, -1)
    for target in end.get_parameters()[0].output(0).get_target_inputs():
        target.replace_source_output(last)

    parameters = iter(start.get_parameters())
    inputs = [noise if port.name == NOISE else next(parameters) for port in loop.inputs]
    return openvino.Model(end.get_results(), inputs, "sampling_loop")


def _converted(module: nn.Module, examples: Sequence[Tensor], axes: Sequence[int | None]) -> Any:
    """OpenVINO's model of a module, its inputs of any size along the axes named."""
    import openvino

    shapes = [
        [-1 if axis == number else size for number, size in enumerate(example.shape)]
        for example, axis in zip(examples, axes, strict=True)
    ]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about its own deprecation
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, tuple(examples), check_trace=False
        )
        with nothing_sent_home():
            return openvino.convert_model(traced, example_input=tuple(examples), input=shapes)


def nothing_sent_home() -> AbstractContextManager[None]:
    """OpenVINO's converter tells its makers about every model, unasked, except in CI."""
    return environment_variables({"CI": "true"})

"""A sampling program as OpenVINO's model: one step, converted once, in a loop of OpenVINO's own.

Unrolled, ten steps took ten times as long to convert and to compile, to run 5 % faster.
"""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data.core.environ import environment_variables
from dipole.policy.runtimes.program import FRESH_NOISE, End, SamplingProgram, Start, Step

ROWS = 2  # of the examples that are traced


def as_model(program: SamplingProgram) -> Any:
    """An openvino.Model with the inputs of the program, in their order, any batch size."""
    import openvino

    start, inputs = Start(program), program.examples(ROWS)
    with torch.no_grad():
        tensors = start(*inputs)
    named = dict(zip(start.outputs, tensors, strict=True))
    step = Step(program, start)
    begun = _converted(start, inputs, [port.batch_axis for port in program.inputs])
    values = {
        name: result.input_value(0)
        for name, result in zip(start.outputs, begun.get_results(), strict=True)
    }
    state = [values[name] for name in step.state]
    if program.head.fresh_noise:
        state = _looped(program, step, named, values)
    end = _converted(End(program, start), [named[name] for name in step.state], [0] * len(state))
    for parameter, value in zip(end.get_parameters(), state, strict=True):
        for target in parameter.output(0).get_target_inputs():
            target.replace_source_output(value)
    return openvino.Model(end.get_results(), begun.get_parameters(), "sampling_program")


def _looped(
    program: SamplingProgram, step: Step, named: Mapping[str, Tensor], values: Mapping[str, Any]
) -> list[Any]:
    """The state after the last step, as outputs of a loop around one step.

    named: Examples of the tensors before the loop. values: The same as outputs of nodes.
    """
    from openvino import opset13

    examples = {**named, **program.constants}
    given = [examples[name][:1] if name in step.rows else examples[name] for name in step.inputs]
    axes = [_batch_axis(name, program) for name in step.inputs]
    body = _converted(step, given, axes)
    parameters = dict(zip(step.inputs, body.get_parameters(), strict=True))
    after = dict(zip(step.state, body.get_results(), strict=True))
    loop = opset13.tensor_iterator()
    loop.set_body(body)
    for name in step.state:
        loop.set_merged_input(parameters[name], values[name], after[name].output(0))
    for name in step.rows:
        rows = values[name] if name in values else _constant(program.constants[name])
        loop.set_sliced_input(parameters[name], rows, 0, 1, 1, -1, 0)
    for name in step.prepared:
        loop.set_invariant_input(parameters[name], values[name])
    return [loop.get_iter_value(after[name].output(0), -1) for name in step.state]


def _batch_axis(name: str, program: SamplingProgram) -> int | None:
    if name in program.constants:
        return None
    return 1 if name == FRESH_NOISE else 0


def _constant(tensor: Tensor) -> Any:
    from openvino import opset13

    return opset13.constant(tensor.detach().numpy()).output(0)


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
        with telemetry_disabled():
            return openvino.convert_model(traced, example_input=tuple(examples), input=shapes)


def telemetry_disabled() -> AbstractContextManager[None]:
    """OpenVINO's converter reports every model to its makers, unasked, except in CI."""
    return environment_variables({"CI": "true"})

"""Weights of eight bits in an OpenVINO model: a quarter of what a robot's chunk reads from memory.

A matrix [N, K] becomes whole numbers from -127 to 127 and one scale for each of its N outputs
(symmetric, rounded to the nearest). OpenVINO's CPU plugin recognises what it is multiplied with and
never makes the whole matrix large again; where the processor has products of eight bits, it rounds
what comes in too, in groups of 32 numbers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

LEAST = 4096  # numbers of a matrix; smaller ones are read at once, and often first or last
LARGEST = 127


def with_int8_weights(model: Any) -> int:
    """Replace the constant matrices of an openvino.Model and of its loops; returns how many."""
    return sum(_replace(node) for part in _parts(model) for node in part.get_ops())


def quantised(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(int8 numbers, float32 scales): numbers * scales is within half a scale of the weight.

    axis: the one that is summed over in the product, along which all share a scale.
    """
    scale = np.abs(weight).max(axis, keepdims=True) / LARGEST
    scale[scale == 0] = 1
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


def _parts(model: Any) -> Iterator[Any]:
    """The model and the bodies of its loops."""
    yield model
    for node in model.get_ops():
        if node.get_type_name() == "TensorIterator":
            yield from _parts(node.get_function())


def _replace(product: Any) -> bool:
    from openvino import opset13

    if product.get_type_name() != "MatMul":
        return False
    constant = product.input_value(1).get_node()
    if constant.get_type_name() != "Constant":
        return False
    weight = constant.get_data()
    if weight.ndim != 2 or weight.size < LEAST:
        return False
    numbers, scales = quantised(weight, 1 if product.get_attributes()["transpose_b"] else 0)
    again = opset13.multiply(opset13.convert(opset13.constant(numbers), "f32"), scales)
    product.input(1).replace_source_output(again.output(0))
    return True

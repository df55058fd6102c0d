"""How convolution weights lie in memory: one matrix per tap on a CPU, as torch has them elsewhere.

A parameter is [C', C, K] (transposed convolutions: [C, C', K]) as torch.nn has it. On a CPU its
memory is that of a contiguous [K, C, C'], of which it is a permuted view: the products of the fast
path read contiguous matrices, and no weight is copied. Values, names and shapes are those of
torch.nn; from another arrangement the same numbers are computed, more slowly.

Functions of torch that view a weight as one row (`parameters_to_vector`, pruning) refuse permuted
views: call `arrange_weights(module, by_tap=False)` before them.
"""

from collections.abc import Iterator

from torch import Tensor, nn

Convolution = nn.Conv1d | nn.ConvTranspose1d


def taps(layer: Convolution) -> Tensor:
    """The weights of a convolution as [K, C, C'], a view."""
    return layer.weight.permute(*_axes(layer))


def arrange_weights(module: nn.Module, by_tap: bool | None = None) -> None:
    """Let the weights of its convolutions, and their gradients, lie one matrix per tap, or as torch
    has them; None: as suits their device. Before an optimiser is made: a fused update goes through
    weights and state in the order of memory, which has to be the same. Sharded weights stay as
    they are."""
    for layer in _convolutions(module):
        weight = layer.weight
        if hasattr(weight, "placements"):  # a DTensor, of which this process has a shard
            continue
        wanted = weight.device.type in ("cpu", "meta") if by_tap is None else by_tap
        axes = _axes(layer) if wanted else (0, 1, 2)
        if weight.grad is not None:
            weight.grad = _in_order(weight.grad, axes)
        weight.data = _in_order(weight.data, axes)


def arrange_drawn_weights(module: nn.Module) -> None:
    """The same for random weights: numbers stay where they are in memory, and thereby become those
    of other places. So a seed gives the network that it has always given."""
    for layer in _convolutions(module):
        by_tap = layer.weight.data.reshape(taps(layer).shape)
        layer.weight.data = by_tap.permute(*_inverse(_axes(layer)))


def _in_order(weight: Tensor, axes: tuple[int, int, int]) -> Tensor:
    """The same numbers, contiguous in memory with axes in this order."""
    return weight.permute(*axes).contiguous().permute(*_inverse(axes))


def _axes(layer: Convolution) -> tuple[int, int, int]:
    """Of a weight as torch has it, in the order K, C, C'."""
    return (2, 0, 1) if layer.transposed else (2, 1, 0)


def _inverse(axes: tuple[int, int, int]) -> tuple[int, int, int]:
    first, second, third = (axes.index(axis) for axis in range(3))
    return first, second, third


def _convolutions(module: nn.Module) -> Iterator[Convolution]:
    return (m for m in module.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d))

"""A module's tensors for a file and from one: each once, whatever shares it."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state dict without second names of one tensor (tied weights), and without memory that two
    share otherwise: what safetensors can hold."""
    aliases, seen, stored = _aliases(module), set(), {}
    for name, tensor in module.state_dict().items():
        if name in aliases:
            continue
        if hasattr(tensor, "placements"):  # a DTensor: FSDP's shards have memory of their own
            stored[name] = tensor
            continue
        memory = tensor.untyped_storage().data_ptr()
        shared = memory in seen and tensor.numel() > 0
        stored[name] = tensor.clone() if shared else tensor
        seen.add(memory)
    return stored


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], assign: bool = False) -> None:
    """The inverse of `stored_tensors`; files with all names are read too.

    assign: the module takes the tensors themselves, as one without memory has to. Raises
    RuntimeError for tensors of another module.
    """
    aliases = _aliases(module)
    others = {name: tensors[first] for name, first in aliases.items() if first in tensors}
    module.load_state_dict({**tensors, **others}, assign=assign)
    if assign:
        for name, first in aliases.items():
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, _tensor(module, first))


@contextmanager
def parameters_without_memory() -> Iterator[None]:
    """Modules that this thread builds meanwhile have their parameters on the meta device: weights
    are to be loaded. Buffers are real: those that are not saved keep what they were made with."""
    builder = threading.get_ident()

    def without_memory(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> Any:
        if parameter is None or parameter.is_meta or threading.get_ident() != builder:
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(without_memory)
    try:
        yield
    finally:
        hook.remove()


def _aliases(module: nn.Module) -> dict[str, str]:
    """{name: the first name of the same parameter or buffer}, of those with several."""
    first: dict[int, str] = {}
    aliases = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        known = first.setdefault(id(tensor), name)
        if known != name:
            aliases[name] = known
    return aliases


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(owner), attribute)
    return found

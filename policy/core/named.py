"""Modules by the names that people give to observations, which may be any."""

import re
from collections.abc import ItemsView, Iterator, KeysView

from torch import nn

PREFIX = "_feature_"  # of names that are spelt otherwise in a state dict
ESCAPED = {"_": "__", ".": "_dot_"}


def module_key(name: str) -> str:
    """The name under which torch keeps the module or parameter of a feature.

    The name itself, unless it has a dot ("observation.state") or torch's containers have an
    attribute of that name ("type", "keys", "training").

    >>> module_key("agent_pos"), module_key("keys"), module_key("observation.state")
    ('agent_pos', '_feature_keys', '_feature_observation_dot_state')
    """
    if name and "." not in name and not name.startswith(PREFIX) and not _is_taken(name):
        return name
    return PREFIX + "".join(ESCAPED.get(letter, letter) for letter in name)


def feature_name(key: str) -> str:
    """The inverse of `module_key`."""
    if not key.startswith(PREFIX):
        return key
    letters = {escaped: letter for letter, escaped in ESCAPED.items()}
    return re.sub("__|_dot_", lambda found: letters[found[0]], key.removeprefix(PREFIX))


class NamedModules(nn.ModuleDict):
    """An nn.ModuleDict whose keys may be any names.

    >>> modules = NamedModules({"observation.state": nn.Identity()})
    >>> list(modules), "observation.state" in modules
    (['observation.state'], True)
    """

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(module_key(key))

    def __setitem__(self, key: str, module: nn.Module) -> None:
        super().__setitem__(module_key(key), module)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(module_key(key))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and super().__contains__(module_key(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        return self._by_name().keys()

    def items(self) -> ItemsView[str, nn.Module]:
        return self._by_name().items()

    def _by_name(self) -> dict[str, nn.Module]:
        return {feature_name(k): m for k, m in self._modules.items() if m is not None}


_CONTAINERS = (nn.ModuleDict(), nn.ParameterDict())


def _is_taken(name: str) -> bool:
    return any(hasattr(container, name) for container in _CONTAINERS)

"""Settings whose values are never printed."""

from typing import Any

SECRETS = ("token",)


def printable(node: Any, key: str = "") -> Any:
    """A configuration without the values of its secrets; the variable one comes from may show."""
    if isinstance(node, dict):
        return {name: printable(value, str(name)) for name, value in node.items()}
    secret = _is_secret(key) and node is not None
    return "***" if secret and not str(node).startswith("${oc.env:") else node


def printable_word(word: str) -> str:
    """A setting as it was typed, without the value of a secret.

    >>> printable_word("server.token=abc")
    'server.token=***'
    """
    key, equals, _ = word.partition("=")
    return f"{key}=***" if equals and _is_secret(key) else word


def _is_secret(key: str) -> bool:
    return key.lstrip("+~").rpartition(".")[2] in SECRETS

"""What was evaluated, and where, as `metrics.json` says it."""

from dataclasses import asdict, is_dataclass
from typing import Any

from dipole.envs.rollout.resolved import ResolvedEnvironment


def terms(policy: Any, resolved: ResolvedEnvironment) -> dict[str, Any]:
    """Of a policy and an environment that was made."""
    return {
        "evaluations_per_chunk": getattr(policy, "evaluations_per_chunk", None),
        "environment": resolved.version,
        "environment_options": resolved.options,
        "environment_settings": resolved.settings,
        "checkpoint": _text(getattr(policy, "checkpoint", None)),
        "solver": plain(getattr(policy, "solver", None)),
    }


def plain(value: Any) -> Any:
    """A solver's name and options as JSON has them."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value if isinstance(value, dict) else _text(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

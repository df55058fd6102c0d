"""Which simulators can be made here, tried rather than guessed, for `dipole doctor`."""

from collections.abc import Iterator

from dipole.data.core.errors import ConfigError


def simulators() -> Iterator[tuple[str, str, bool, str]]:
    """(family, what was found, whether one of its environments can be made, the remedy)."""
    from dipole.envs import ENVIRONMENTS

    for name in ENVIRONMENTS.names():
        yield name, *_made(name)


def _made(name: str) -> tuple[str, bool, str]:
    """Make one environment of a family: its first task where it has several."""
    from dipole.envs import ENVIRONMENTS, environment_version, make_env

    family = ENVIRONMENTS[name]
    first = f"{name}/{family.tasks[0]}" if family.tasks else name
    remedy = f"pip install 'dipole[{family.extra}]'" if family.extra else ""
    try:
        make_env(first).close()
    except ConfigError as error:
        return str(error), False, remedy
    except Exception as error:  # whatever a simulator and its libraries raise
        return f"{first} cannot be made: {error or type(error).__name__}", False, remedy
    version = environment_version(first)["version"]
    several = f", {len(family.tasks)} tasks" if len(family.tasks) > 1 else ""
    return f"{version}{several}", True, ""

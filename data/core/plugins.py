"""Code of others that registers what dipole finds by name: entry points of `dipole.plugins`.

    [project.entry-points."dipole.plugins"]
    my_robot = "my_robot.dipole_parts"

An installed distribution names a module; importing it registers transforms, mirrors, sources,
environments, encoders, heads, robots. Only what is installed is imported: never what a
configuration, a dataset or a checkpoint names.
"""

import threading
import warnings
from importlib.metadata import EntryPoint, entry_points

GROUP = "dipole.plugins"
_lock = threading.RLock()
_failures: dict[str, str] | None = None  # None: nobody has asked yet


def load_plugins() -> dict[str, str]:
    """Import each plugin, once in a process; registries call this before they say what they know.

    Returns what went wrong, by the plugin's name. A plugin that cannot be imported is warned of
    once and left out, so that commands which do not need it go on; a name that is unknown for its
    absence is answered with its failure.
    """
    global _failures  # noqa: PLW0603  once in a process
    with _lock:
        if _failures is None:
            _failures = {}  # before the imports: they look into registries too
            for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
                failure = _import(point)
                if failure:
                    _failures[point.name] = failure
                    warnings.warn(f"plugin {failure}", RuntimeWarning, stacklevel=2)
        return _failures


def _import(point: EntryPoint) -> str:
    """What went wrong, or ""."""
    try:
        point.load()
    except Exception as error:
        dist = getattr(point, "dist", None)
        of = f" of {dist.name} {dist.version}" if dist else ""
        return f"{point.name}{of} ({point.value}) cannot be used: {type(error).__name__}: {error}"
    return ""

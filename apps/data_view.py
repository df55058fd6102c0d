"""`dipole data view`: a dataset as one web page."""

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from dipole.apps.errors import UsageError
from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.data.store.bundle import PREFIX
from dipole.data.store.store import EpisodeStore
from dipole.data.view import SCENES, Scene, ViewSpec, write_page
from dipole.data.view.page import Written, check_output

DOES = "write one web page to look at episodes, plots and facts; it needs no network"

WORDS = """words:
  episodes=0,7,20-24  which are shown [an even sample, as many as fit]
  size=MB             the page's largest size, in megabytes [16]
  output=FILE         the page [NAME_view.html, in this folder]
  scene=NAME          draw states as this environment's; none: do not [the dataset's own]"""
KNOWN = ("episodes", "size", "output", "scene")


def add_parser(commands: Any) -> None:
    """commands: what `add_subparsers` returned."""
    command = commands.add_parser(
        "view",
        help=DOES,
        description=DOES,
        epilog=WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("path", help="a folder or zip, or bundled:NAME such as bundled:pusht")
    command.add_argument("words", nargs="*", metavar="WORD=VALUE", help="see below")
    command.add_argument("--open", action="store_true", help="open it in the browser")


def view(arguments: argparse.Namespace) -> int:
    """Write the page and say what is in it. Returns 0; raises UsageError for unknown words."""
    words = read_words(arguments.words)
    spec = ViewSpec(words.get("episodes"), megabytes(words.get("size", "16")))
    path = Path(words.get("output", default_output(arguments.path))).expanduser()
    check_output(path)
    store = EpisodeStore.open(arguments.path)
    scene = choose_scene(store, words.get("scene"))
    with Console(stderr=True).status("reading") as status:
        written = write_page(store, path, spec, scene, log=lambda text: status.update(escape(text)))
    print(said(written, store.n_episodes, spec))
    if arguments.open:
        webbrowser.open(path.absolute().as_uri())
    return 0


def read_words(words: Sequence[str]) -> dict[str, str]:
    """Values by their key; raises UsageError for a word that says nothing."""
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value or key not in KNOWN:
            hint = nearest(key, KNOWN) or ":"
            raise UsageError(f"{word!r}{hint} Words are {', '.join(f'{k}=' for k in KNOWN)}")
        values[key] = value
    return values


def megabytes(text: str) -> float:
    """A number of megabytes; raises UsageError for anything else."""
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"size={text}: megabytes are wanted, a number such as 50") from None


def default_output(dataset: str) -> str:
    """ "pusht_view.html" for "bundled:pusht" and for "recordings/pusht.zarr.zip"."""
    name = dataset.removeprefix(PREFIX) if dataset.startswith(PREFIX) else Path(dataset).name
    return f"{name.removesuffix('.zip').removesuffix('.zarr') or 'dataset'}_view.html"


def choose_scene(store: EpisodeStore, name: str | None) -> Scene | None:
    """The scene called `name`, or that of the dataset's environment where one is registered.

    Raises ConfigError for an unknown name, and where the dataset lacks what the scene shows.
    """
    import dipole.envs  # noqa: F401  simulators register how their states are drawn

    if name == "none":
        return None
    if name is None:
        environment = str(store.environment.get("id"))
        scene = SCENES[environment] if environment in SCENES else None  # noqa: SIM401
        return scene if scene is not None and scene.fits(columns(store)) else None
    scene = SCENES[name]
    if not scene.fits(columns(store)):
        needed = sorted({shape.body.key for shape in scene.shapes if shape.body is not None})
        raise ConfigError(
            f"scene={name}: it is drawn from {' and '.join(needed)}, and the arrays of "
            f"{store.path} are not of that kind: {columns(store)}"
        )
    return scene


def columns(store: EpisodeStore) -> dict[str, int]:
    """How many numbers a frame of each key holds."""
    return {key: a.frame_bytes // a.dtype.itemsize for key, a in store.arrays.items()}


def said(written: Written, n_episodes: int, spec: ViewSpec) -> str:
    """The last line of the command."""
    every = written.episodes == n_episodes
    shown = f"all {n_episodes}" if every else f"{written.episodes} of {n_episodes}"
    text = (
        f"{written.path}: {written.n_bytes / 1e6:.1f} MB (of at most {spec.megabytes:g}), "
        f"{shown} episodes"
    )
    if written.with_pictures:
        text += f", {written.with_pictures} with pictures"
    if written.left_out:
        text += f"\nno room for episodes {', '.join(map(str, written.left_out))}: give size=MB"
    return text

"""`dipole data view`: a dataset as one web page."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dipole.apps.commands.data.info import DATASET
from dipole.apps.terminal.tools import Work
from dipole.data.core.errors import ConfigError
from dipole.data.store.bundle import PREFIX
from dipole.data.store.store import EpisodeStore
from dipole.data.view import SCENES, Scene, ViewSpec, write_page
from dipole.data.view.page import Written, check_output

EPISODES = "Which are shown, such as 0,7,20-24; by default an even sample, as many as fit."
SIZE = "The page's largest size, in megabytes."
OUTPUT = "The page; by default NAME_view.html, in this folder."
SCENE = "Draw states as this environment's; none: do not. By default the dataset's own."
OPEN = "Open it in the browser."


def view(
    path: Annotated[str, typer.Argument(metavar="PATH", help=DATASET, show_default=False)],
    episodes: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help=EPISODES, show_default=False)
    ] = None,
    size: Annotated[float, typer.Option(metavar="MEGABYTES", help=SIZE)] = 16.0,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help=OUTPUT, show_default=False)
    ] = None,
    scene: Annotated[
        str | None, typer.Option(metavar="NAME", help=SCENE, show_default=False)
    ] = None,
    open: Annotated[bool, typer.Option("--open", help=OPEN)] = False,
) -> Work:
    """Write one web page to look at.

    It shows episodes, plots and facts, and needs no network.
    """
    page = (output or Path(default_output(path))).expanduser()
    return lambda: _view(path, ViewSpec(episodes, size), page, scene, open)


def _view(dataset: str, spec: ViewSpec, page: Path, scene_name: str | None, opened: bool) -> int:
    check_output(page)
    store = EpisodeStore.open(dataset)
    scene = choose_scene(store, scene_name)
    with Console(stderr=True).status("reading") as status:
        written = write_page(store, page, spec, scene, log=lambda text: status.update(escape(text)))
    print(summary(written, store.n_episodes, spec))
    if opened:
        webbrowser.open(page.absolute().as_uri())
    return 0


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
            f"--scene {name}: it is drawn from {' and '.join(needed)}, and the arrays of "
            f"{store.path} are not of that kind: {columns(store)}"
        )
    return scene


def columns(store: EpisodeStore) -> dict[str, int]:
    """How many numbers a frame of each key holds."""
    return {key: a.frame_bytes // a.dtype.itemsize for key, a in store.arrays.items()}


def summary(written: Written, n_episodes: int, spec: ViewSpec) -> str:
    """The last line of the command."""
    every = written.episodes == n_episodes
    shown = f"all {n_episodes}" if every else f"{written.episodes} of {n_episodes}"
    text = (
        f"{written.path}: {written.n_bytes / 1e6:.1f} MB (of at most {spec.megabytes:g}), "
        f"{shown} episodes"
    )
    if written.with_images:
        text += f", {written.with_images} with images"
    if written.left_out:
        text += f"\nno room for episodes {', '.join(map(str, written.left_out))}: give --size MB"
    return text

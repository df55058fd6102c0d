"""The page itself: one HTML file with everything in it, of at most the size that is asked for.

A dataset may come from anybody. Its texts reach the page as JSON in which no `<` stands, its
numbers and images as base64, and the page's own content policy names its one script by hash, so
that no other one would run and nothing is ever loaded.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.store.store import EpisodeStore
from dipole.data.view import facts
from dipole.data.view.contents import ByteBudget, Contents, fill
from dipole.data.view.embed import safe_json
from dipole.data.view.images import settings
from dipole.data.view.scene import Scene
from dipole.data.view.selection import even_order, parse_episodes

MARK = "<!doctype html><!-- made by dipole data view -->"  # how a page of ours begins
SCRIPTS = ("bytes", "format", "plot", "images", "scene", "path", "dataset", "player", "main")


@dataclass(frozen=True)
class ViewSpec:
    """episodes: such as "0,7,20-24", None for an even sample; megabytes: the page's largest size.

    One megabyte is 10**6 bytes.
    """

    episodes: str | None = None
    megabytes: float = 16.0

    def __post_init__(self) -> None:
        if not 0.2 <= self.megabytes <= 500:
            raise ConfigError(f"a page of {self.megabytes:g} MB: 0.2 to 500 can be made and opened")


@dataclass(frozen=True)
class Written:
    """What came of it."""

    path: Path
    n_bytes: int
    episodes: int
    with_images: int
    left_out: list[int]


def write_page(
    store: EpisodeStore,
    path: Path,
    spec: ViewSpec | None = None,
    scene: Scene | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Written:
    """Write the page; scene: how the environment's state is drawn, where the dataset has it.

    Raises DataError where `path` is a file that is no page of this kind, or one episode does not
    fit; ConfigError for episodes that are not there.
    """
    check_output(path)
    spec = spec or ViewSpec()
    html, contents = make_page(store, spec, scene, log)
    data = html.encode()
    if len(data) > spec.megabytes * 1e6:
        raise AssertionError(f"a page of {len(data)} bytes: {spec.megabytes} MB were promised")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    shown = len(contents.episodes)
    return Written(path, len(data), shown, contents.n_with_images, contents.left_out)


def check_output(path: Path) -> None:
    """Raise DataError where `path` cannot become a page: only a page of ours is written anew."""
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"{path}: a page is a file in a folder that exists; give output=FILE")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(MARK)) != MARK.encode():
                raise DataError(f"{path} exists and is no page of dipole's; give another output=")


def make_page(
    store: EpisodeStore,
    spec: ViewSpec,
    scene: Scene | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> tuple[str, Contents]:
    """The HTML of at most `spec.megabytes`, and what went into it."""
    chosen = spec.episodes is not None
    wanted = (
        even_order(store.n_episodes)
        if spec.episodes is None
        else parse_episodes(spec.episodes, store.n_episodes)
    )
    keys = facts.number_keys(store, log)
    cameras = [key for key in sorted(store.arrays) if facts.is_camera(store, key)]
    columns = {key["key"]: key["shown"] for key in keys}
    data: dict[str, Any] = {
        "facts": facts.dataset_facts(store, log),
        "keys": keys,
        "cameras": cameras,
        "scene": scene.to_dict() if scene is not None and scene.fits(columns) else None,
        "megabytes": spec.megabytes,
    }
    free = int(spec.megabytes * 1e6) - len(_html(data, [])) - 1000 - 400 * len(cameras)
    contents = fill(store, wanted, chosen, list(columns), cameras, ByteBudget(free), log)
    if contents.images is not None:
        shown = contents.images
        data["images"] = {camera: settings(store, camera, shown) for camera in cameras}
    data["episodes"] = contents.episodes
    return _html(data, contents.scripts), contents


def _html(data: dict[str, Any], scripts: list[str]) -> str:
    style = _file("page.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_file(f"{s}.js") for s in SCRIPTS) + "})();\n"
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "STYLE": style,
        "DATA": safe_json(data),
        "BYTES": "".join(scripts),
        "SCRIPT": script,
    }
    # Split, not replaced one after the other: what is put in is never looked at again.
    pieces = _file("page.html").split("%%")
    filled = [parts[piece] if i % 2 else piece for i, piece in enumerate(pieces)]
    return MARK + "\n" + "".join(filled)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return (files("dipole.data.view") / name).read_text("utf-8")

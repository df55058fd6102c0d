"""A dataset as one web page that needs no network: `write_page`, and scenes drawn from states."""

from dipole.data.view.page import ViewSpec, write_page
from dipole.data.view.scene import SCENES, Body, Disc, Mark, Outline, Scene

__all__ = ["SCENES", "Body", "Disc", "Mark", "Outline", "Scene", "ViewSpec", "write_page"]

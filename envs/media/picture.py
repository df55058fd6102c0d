"""What the policy would do, drawn over the scene: several chunks per state, to see its modes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from dipole.envs.media.video import RUNNING, PackedFrame, caption_tile, scale_to_width, tiled
from dipole.envs.wrapped import offered
from dipole.policy.execution.executor import ChunkPolicy, predict_rows

PANEL_WIDTH = 320
# Lines are drawn at twice the size, then scaled down: smooth without a drawing library.
OVERSAMPLING = 2
LEGEND = "possible next chunks, from blue (now) to red; thick: executed before looking again"
FIRST_COLOUR, LAST_COLOUR = np.array([20.0, 60.0, 220.0]), np.array([245.0, 70.0, 30.0])

# actions [..., A], height, width of the frame -> pixels [..., 2] as (x to the right, y down)
Projection = Callable[[np.ndarray, int, int], np.ndarray]


@dataclass(frozen=True)
class Moment:
    """A state met in an evaluation: what the policy saw, {name: [To, *shape]}, and the scene."""

    seed: int
    step: int
    observation: dict[str, np.ndarray]
    frame: PackedFrame

    @property
    def where(self) -> str:
        """In words, for captions."""
        return f"seed {self.seed}   step {self.step}"


def action_projection(environment: Any) -> Projection | None:
    """How actions of this environment lie in its rendered scene; None where they do not.

    It is the method `action_pixels(actions, height, width)` of the environment, or of one that it
    wraps.
    """
    projection: Projection | None = offered(environment, "action_pixels")
    return projection


def chunk_picture(
    moments: Sequence[Moment],
    policy: ChunkPolicy,
    projection: Projection,
    executed: slice,
    *,
    samples: int = 16,
) -> np.ndarray:
    """A grid of scenes, each with `samples` chunks drawn over it: [height, width, 3] uint8.

    A chunk runs from blue (now) to red (its end); what would be executed is drawn thick. One call
    of `samples` rows for each moment, with noise of its own: an evaluation is not disturbed.
    """
    panels = [
        _panel(moment, sample_chunks(policy, moment, samples), projection, executed)
        for moment in moments
    ]
    return caption_tile(tiled(panels, columns=min(4, len(panels))), LEGEND, RUNNING)


def sample_chunks(policy: ChunkPolicy, moment: Moment, samples: int) -> np.ndarray:
    """Independent chunks [samples, H, A] for a state, their noise a function of seed and step."""
    generators = [
        torch.Generator().manual_seed(moment.seed * 1_000_003 + moment.step * 1_009 + i)
        for i in range(samples)
    ]
    repeated = {
        name: np.repeat(value[None], samples, 0) for name, value in moment.observation.items()
    }
    return predict_rows(policy, repeated, generators, samples)


def _panel(
    moment: Moment, chunks: np.ndarray, projection: Projection, executed: slice
) -> np.ndarray:
    frame = scale_to_width(moment.frame.unpack(), PANEL_WIDTH * OVERSAMPLING)
    height, width, _ = frame.shape
    scene = Image.fromarray(frame)
    draw = ImageDraw.Draw(scene)
    for points in projection(chunks, height, width):  # [H, 2]
        _draw_chunk(draw, points, executed)
    drawn = scene.resize((width // OVERSAMPLING, height // OVERSAMPLING), Image.Resampling.LANCZOS)
    caption = f"{moment.where}   {len(chunks)} samples"
    return caption_tile(np.asarray(drawn), caption, RUNNING)


def _draw_chunk(draw: ImageDraw.ImageDraw, points: np.ndarray, executed: slice) -> None:
    """One chunk's path from the first executed action on; thick to the last executed one."""
    last = len(points) - 1
    for k in range(executed.start, last):
        share = (k - executed.start) / max(1, last - 1 - executed.start)
        red, green, blue = (
            (FIRST_COLOUR + share * (LAST_COLOUR - FIRST_COLOUR)).astype(int).tolist()
        )
        thickness = OVERSAMPLING * (2 if k + 1 < executed.stop else 1)
        segment = [float(value) for value in points[k : k + 2].ravel()]
        draw.line(segment, fill=(red, green, blue), width=thickness)

"""Demonstrations by mouse: the agent follows the pointer, ten times a second, in a pygame window.

An episode begins when the pointer touches the agent. R starts it again; Q, or closing the window,
ends.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pygame

from dipole.data.recording.record import Demonstration, record_episode

GRAB_DISTANCE = 30.0  # pixels of the world, as in gym-pusht
HINT = "touch the disc to begin - R: again - Q: save and quit"


class AgainError(Exception):
    """The person wants this episode again."""


class QuitError(Exception):
    """The person has done enough."""


class MouseWindow:
    """A window on an environment whose action is a position in its rendered scene.

    environment: renders [H, W, 3] uint8; its action Box [2] is what the scene shows from edge to
    edge, y down; its `state` begins with the agent's position. The window is a Demonstrator.
    """

    def __init__(self, environment: Any, rate: float = 10.0) -> None:
        self.environment = environment
        self.rate = rate
        self._clock = pygame.time.Clock()
        self._screen: pygame.Surface | None = None

    def reset(self, seed: int) -> None:
        """Wait until the pointer touches the agent. Raises QuitError or AgainError."""
        agent = self.environment.state[:2]
        self._show(f"episode {seed}: {HINT}")
        while np.linalg.norm(self._pointer() - agent) > GRAB_DISTANCE:
            self._obey()
            self._clock.tick(60)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Where the pointer is [2], when the next tenth of a second has passed."""
        self._show(HINT)
        self._clock.tick(self.rate)
        self._obey()
        return self._pointer()

    def close(self) -> None:
        pygame.display.quit()

    def _pointer(self) -> np.ndarray:
        space = self.environment.action_space
        size = np.array(self._surface().get_size(), dtype=np.float64)
        position = space.low + np.array(pygame.mouse.get_pos()) / size * (space.high - space.low)
        return np.asarray(np.clip(position, space.low, space.high), dtype=np.float32)

    def _obey(self) -> None:
        for event in pygame.event.get():
            quits = event.type == pygame.KEYDOWN and event.key in (pygame.K_q, pygame.K_ESCAPE)
            if event.type == pygame.QUIT or quits:
                raise QuitError
            if event.type == pygame.KEYDOWN and event.key == pygame.K_r:
                raise AgainError

    def _show(self, title: str) -> None:
        scene = pygame.surfarray.make_surface(self.environment.render().swapaxes(0, 1))
        self._surface().blit(scene, (0, 0))
        pygame.display.set_caption(title)
        pygame.display.flip()

    def _surface(self) -> pygame.Surface:
        if self._screen is None:
            pygame.display.init()
            height, width = self.environment.render().shape[:2]
            self._screen = pygame.display.set_mode((width, height))
        return self._screen


def mouse_demonstrations(
    window: MouseWindow, seed: int, episodes: int | None = None, minimum_frames: int = 1
) -> Iterator[Demonstration]:
    """Successful episodes from seed, seed + 1, ...; a failed one is tried again."""
    kept = 0
    try:
        while episodes is None or kept < episodes:
            try:
                demonstration = record_episode(window.environment, window, seed + kept)
            except AgainError:
                continue
            if demonstration.success and len(demonstration) >= minimum_frames:
                kept += 1
                yield demonstration
    except QuitError:
        return
    finally:
        window.close()

"""Demonstrations by mouse, with no screen: SDL's dummy driver and events made up."""

import numpy as np
import pytest

from dipole.envs import make_env

pytest.importorskip("gym_pusht")
pygame = pytest.importorskip("pygame")


@pytest.fixture
def hand(monkeypatch):
    """A pointer that the test moves: hand.position in pixels of the window."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    class Hand:
        position = (0, 0)

    monkeypatch.setattr("pygame.mouse.get_pos", lambda: Hand.position)
    yield Hand
    pygame.display.quit()


@pytest.fixture
def window(hand):
    from dipole.envs.pusht.mouse import MouseWindow

    return MouseWindow(make_env("pusht", observation=("state",), render_size=256), rate=10_000.0)


def _press(key):
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def test_the_action_is_where_the_pointer_is(window, hand):
    observation, _ = window.environment.reset(seed=0)
    hand.position = (128, 64)  # of 256
    np.testing.assert_allclose(window.act(observation), [256, 128])


def test_an_episode_waits_for_the_pointer_to_touch_the_agent(window, hand, monkeypatch):
    window.environment.reset(seed=0)  # the agent is at (390, 304)
    waits = []

    def come_closer():
        waits.append(hand.position)
        hand.position = (100 + 20 * len(waits), 152)

    monkeypatch.setattr(window, "_obey", come_closer)
    window.reset(seed=0)
    assert hand.position == (180, 152)  # (360, 304) in the world: 30 pixels from the agent
    assert len(waits) == 4


def test_an_episode_that_ends_at_the_goal_is_recorded(window, hand, monkeypatch):
    from dipole.envs.pusht.mouse import mouse_demonstrations

    env, reset = window.environment, window.environment.reset

    def near_the_goal(seed=None):
        # the block lies 8 pixels short of the goal, along its stem; the agent is above its bar
        return reset(seed=seed, options={"state": [273, 239, 261.7, 250.3, np.pi / 4]})

    monkeypatch.setattr(env, "reset", near_the_goal)
    hand.position = (136, 120)
    actions = []
    act = window.act

    def push(observation):
        actions.append(act(observation))
        hand.position = (136 - len(actions), 120 + len(actions))
        if len(actions) > 30:
            _press(pygame.K_q)
        return actions[-1]

    monkeypatch.setattr(window, "act", push)
    (demonstration,) = mouse_demonstrations(window, seed=5, episodes=1)
    assert demonstration.success
    assert demonstration.seed == 5
    np.testing.assert_array_equal(demonstration.frames["action"], actions)
    assert demonstration.frames["state"].shape == (len(actions), 5)


def test_r_starts_the_episode_again_and_q_ends(window, hand, monkeypatch):
    from dipole.envs.pusht.mouse import mouse_demonstrations

    resets, reset = [], window.reset

    def begin(seed):
        resets.append(seed)
        window._surface()
        _press(pygame.K_r if len(resets) == 1 else pygame.K_q)
        reset(seed)

    monkeypatch.setattr(window, "reset", begin)
    assert list(mouse_demonstrations(window, seed=3)) == []
    assert resets == [3, 3]

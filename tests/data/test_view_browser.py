"""The page of `dipole data view` in a real browser. Skipped where there is no Chromium."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dipole.apps.commands.data import main
from dipole.data import EpisodeStore, EpisodeWriter
from dipole.data.view import ViewSpec, write_page

_spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
browser_file = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser_file)
until = browser_file.until

pytestmark = pytest.mark.skipif(
    browser_file.chromium() is None, reason="no Chromium here: apt-get install chromium"
)
EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
FRAME = "Number(slider.value)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browser_file.Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.resize(1440, 900)
        yield browser


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """A robot's page: 3 episodes of 40, 1 and 20 frames at 20 Hz, two cameras, twelve joints.

    The level of grey in the cameras is 5 times the frame's number; joint 0 is that number.
    """
    folder = tmp_path_factory.mktemp("robot")
    with EpisodeWriter(folder / "robot.zarr", fps=20, environment={"id": EVIL}) as writer:
        for frames in (40, 1, 20):
            number = np.arange(frames)
            grey = (5 * number).astype(np.uint8)[:, None, None, None]
            joints = np.tile(number[:, None], 12) + np.arange(12)
            writer.add_episode(
                {
                    "joints": joints,
                    "action": joints + 0.5,
                    "front": np.broadcast_to(grey, (frames, 48, 64, 3)),
                    "wrist": np.broadcast_to(grey, (frames, 30, 30, 3)),
                }
            )
    store = EpisodeStore.open(folder / "robot.zarr")
    return write_page(store, folder / "robot.html", ViewSpec()).path


def grey(browser, camera):
    """The middle of a camera's image, and the frame that it is of."""
    canvas = f"document.querySelectorAll('figure canvas')[{camera}]"
    pixel = f"[...{canvas}.getContext('2d').getImageData(9, 9, 1, 1).data]"
    return browser.run(f"[{pixel}[0], Number({canvas}.dataset.frame)]")


def values(browser):
    """The numbers beside the first row: what was measured, and what was commanded."""
    return browser.run("[...document.querySelectorAll('.value')[0].children].map(b => b.innerText)")


def test_images_and_numbers_are_those_of_the_frame(browser, robot):
    browser.open(robot, "#episode=0&frame=30")
    for camera in (0, 1):
        until(lambda camera=camera: grey(browser, camera)[1] == 30)
        assert abs(grey(browser, camera)[0] - 150) <= 3
    assert values(browser) == ["30.00", "30.50"]
    assert "1.50 s · frame 30 / 39" in browser.run("clock.value")


def test_the_page_complains_of_nothing_and_asks_for_nothing(browser, robot):
    browser.open(robot)
    browser.press("ArrowDown")
    browser.run("document.getElementById('tab-dataset').click()")
    assert browser.complaints() == []
    assert browser.requests() == [robot.as_uri()]


def test_arrows_step_and_space_plays_to_the_end(browser, robot):
    browser.open(robot)
    for key, shift, frame in (
        ("ArrowRight", False, 1),
        ("ArrowRight", True, 11),
        ("ArrowLeft", False, 10),
        ("End", False, 39),
        ("Home", False, 0),
    ):
        browser.press(key, shift)
        assert browser.run(FRAME) == frame
    browser.run("document.activeElement.blur()")
    browser.press(" ")
    assert browser.run("play.getAttribute('aria-label')") == "Pause"
    until(lambda: browser.run(FRAME) == 39)
    until(lambda: browser.run("play.getAttribute('aria-label')") == "Play")


def test_the_slider_of_a_single_frame_stands_still(browser, robot):
    browser.open(robot, "#episode=1")
    assert browser.run("slider.max") == "0"
    browser.press("ArrowRight")
    browser.press(" ")
    assert browser.run(FRAME) == 0
    assert values(browser) == ["0", "0.5000"]


def test_up_and_down_turn_to_other_episodes(browser, robot):
    browser.open(robot)
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    until(lambda: browser.run("document.documentElement.dataset.ready") == "2")
    assert (
        browser.run("document.querySelector('[aria-selected=true][role=option] b').innerText")
        == "2"
    )
    assert browser.run("slider.max") == "19"
    assert browser.run("location.hash") == "#episode=2&frame=0"


def test_a_drag_over_a_plot_moves_the_cursor_to_the_pointer(browser, robot):
    browser.open(robot)
    box = browser.run(
        "(({left, top, width, height}) => [left, top, width, height])"
        "(document.querySelector('.rows canvas').getBoundingClientRect())"
    )
    left, top, width, height = box
    y = top + height / 2
    browser.drag((left + 6, y), (left + 6 + (width - 12) / 3, y))
    assert browser.run(FRAME) == 13
    line = browser.run("document.querySelector('.cursor').getBoundingClientRect().left")
    assert abs(line - (left + 6 + (width - 12) / 3)) < 1


def test_state_and_action_of_the_same_dimensions_share_their_plots(browser, robot):
    browser.open(robot)
    assert browser.run("document.querySelectorAll('.panel').length") == 1
    assert browser.run("document.querySelectorAll('.name').length") == 12


def test_hostile_texts_stay_texts(browser, robot):
    browser.open(robot)
    assert EVIL in browser.run("summary.textContent")
    assert browser.run("window.pwned") is None
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_a_script_that_got_in_would_not_run(browser, robot):
    """The page's policy names its one script by hash."""
    browser.open(robot)
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.pwned = 1'}))"
    )
    assert browser.run("window.pwned") is None


@pytest.mark.parametrize("width", [360, 800, 1440])
@pytest.mark.parametrize("tab", ["episodes", "dataset"])
def test_nothing_is_wider_than_the_window(browser, robot, width, tab):
    browser.resize(width, 800)
    browser.open(robot)
    browser.run(f"document.getElementById('tab-{tab}').click()")
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
    browser.resize(1440, 900)


def test_the_dark_page_is_dark(browser, robot):
    background = "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g)[0]"
    browser.resize(1440, 900, dark=True)
    browser.open(robot)
    assert int(browser.run(background)) < 64
    browser.resize(1440, 900)
    assert int(browser.run(background)) > 192


def test_every_element_that_is_operated_has_a_name(browser, robot):
    browser.open(robot)
    unnamed = browser.run(
        "[...document.querySelectorAll('button, select, input, canvas[role], [role=option]')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.length))"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_push_t_is_drawn_from_its_state(browser, tmp_path):
    page = tmp_path / "pusht.html"
    main(["view", "bundled:pusht", "--episodes=0", f"--output={page}"])
    state = EpisodeStore.open("bundled:pusht")["state"][40]
    browser.open(page, "#episode=0&frame=40")
    canvas = "document.querySelector('.paper canvas')"
    assert browser.run(f"{canvas}.dataset.frame") == "40"
    scale = browser.run(f"{canvas}.width") / 512
    # The agent's own colour, a little off its centre, where no line runs.
    x, y = (state[:2] * scale).round().astype(int).tolist()
    pixels = browser.run(
        f"[...{canvas}.getContext('2d').getImageData({x - 3}, {y - 3}, 7, 7).data]"
    )
    assert [0x34, 0x63, 0xCF, 255] in np.reshape(pixels, (-1, 4)).tolist()


def test_gaps_are_shown_as_gaps(browser, tmp_path):
    import zarr

    action = np.ones((40, 1), np.float32)
    action[10:20] = np.nan
    group = zarr.open_group(tmp_path / "gaps.zarr", mode="w", zarr_format=3)
    for name, array in (("data/action", action), ("meta/episode_ends", np.array([40]))):
        group.create_array(name, data=array)
    store = EpisodeStore.open(tmp_path / "gaps.zarr")
    page = write_page(store, tmp_path / "gaps.html").path
    for frame, shown in ((9, ["1.000"]), (10, ["–"]), (19, ["–"]), (20, ["1.000"])):
        browser.open(page, f"#episode=0&frame={frame}")
        assert values(browser) == shown


def test_the_words_shown_are_those_of_the_frame(browser, tmp_path, monkeypatch):
    spans = ((0, "pick the cube"), (2, EVIL))
    monkeypatch.setattr(EpisodeStore, "task_spans", lambda self, episode: spans, raising=False)
    with EpisodeWriter(tmp_path / "tasks.zarr", fps=10) as writer:
        writer.add_episode({"action": np.zeros((4, 2))})
    browser.open(write_page(EpisodeStore.open(tmp_path / "tasks.zarr"), tmp_path / "t.html").path)
    shown = "document.getElementById('where').textContent"
    assert browser.run(shown).endswith("· pick the cube")
    for _ in range(3):
        browser.press("ArrowRight", False)
    assert browser.run(shown).endswith(EVIL)
    assert browser.run("window.pwned") is None

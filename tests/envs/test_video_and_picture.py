"""Videos and pictures: what is filmed, how it is arranged, what is left on disk."""

import sys
from pathlib import Path

import av
import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from PIL import Image

from dipole.envs.evaluate import evaluate
from dipole.envs.media.picture import Moment, action_projection, chunk_picture
from dipole.envs.media.video import (
    BORDER,
    CAPTION_HEIGHT,
    FAILED,
    RUNNING,
    SUCCEEDED,
    Recording,
    pack_frame,
    tiled,
    video_grid,
    write_video,
)

sys.path.insert(0, str(Path(__file__).parent))
from fake_policy import FakePolicy
from tiny_simulator import TinySimulator


def plain(value, height=40, width=64):
    return np.full((height, width, 3), value, np.uint8)


def recording(values, success):
    rewards = [value / 255 for value in values[1:]]
    return Recording(3, [pack_frame(plain(value)) for value in values], rewards, success)


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream.codec_context.name, float(stream.average_rate)


def test_frames_are_kept_without_loss():
    frame = np.random.default_rng(0).integers(256, size=(7, 5, 3)).astype(np.uint8)
    assert np.array_equal(pack_frame(frame).unpack(), frame)


@pytest.mark.parametrize("frame", [None, np.zeros((3, 3, 3)), np.zeros((3, 3), np.uint8)])
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(ValueError, match="not \\[H, W, 3\\] uint8"):
        pack_frame(frame)


def test_tiles_are_placed_row_by_row_and_the_rest_is_white():
    grid = tiled([plain(value, 1, 1) for value in (1, 2, 3)])
    assert grid[..., 0].tolist() == [[1, 2], [3, 255]]


def test_an_ended_episode_holds_its_last_frame_and_shows_its_outcome():
    short, long = recording([10, 20], success=True), recording([10, 20, 30], success=False)
    frames = list(video_grid([short, long]))
    assert len(frames) == 3
    width = frames[0].shape[1] // 2
    inside = (BORDER + CAPTION_HEIGHT + 5, BORDER + 5)
    assert [frame[inside][0] for frame in frames] == [10, 20, 20]
    assert [frame[inside[0], width + inside[1]][0] for frame in frames] == [10, 20, 30]
    assert [tuple(frame[0, 0]) for frame in frames] == [RUNNING, SUCCEEDED, SUCCEEDED]
    assert [tuple(frame[0, width]) for frame in frames] == [RUNNING, RUNNING, FAILED]


def test_the_caption_counts_the_best_reward_so_far():
    film = Recording(8, rewards=[0.25, 0.75, 0.5])
    assert [film.caption(step) for step in range(4)] == [
        "seed 8",
        "seed 8   best 0.25",
        "seed 8   best 0.75",
        "seed 8   best 0.75",
    ]


def test_a_video_has_every_frame_in_h264_with_even_sides(tmp_path):
    write_video(tmp_path / "a.mp4", [plain(value, 33, 41) for value in (0, 100, 200)], fps=5)
    frames, codec, fps = read_video(tmp_path / "a.mp4")
    assert codec.startswith("h264")
    assert fps == 5
    assert [frame.shape for frame in frames] == [(34, 42, 3)] * 3
    assert [frame.mean() for frame in frames] == pytest.approx([0, 100, 200], abs=6)


def test_a_failed_video_leaves_nothing_and_keeps_the_old_one(tmp_path):
    def frames():
        yield plain(0)
        raise RuntimeError("the film tore")

    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="film tore"):
        write_video(tmp_path / "a.mp4", frames(), fps=5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


def test_an_evaluation_films_as_many_episodes_as_asked_for(tmp_path):
    result = evaluate(FakePolicy(), TinySimulator, episodes=6, seed=1, n_envs=2, video_episodes=3)
    assert [film.seed for film in result.recordings] == [1, 2, 3]
    for film, episode in zip(result.recordings, result.episodes, strict=False):
        assert len(film.frames) == episode.steps + 1
        assert film.success == episode.success
    names = [path.name for path in result.save(tmp_path)]
    assert names == ["metrics.json", "episodes.csv", "episodes.mp4", "chunks.png"]
    frames, _, fps = read_video(tmp_path / "episodes.mp4")
    assert len(frames) == 1 + max(episode.steps for episode in result.episodes[:3])
    assert fps == 5
    assert Image.open(tmp_path / "chunks.png").size[0] > 300


def test_filming_in_workers_shows_the_same():
    here = evaluate(FakePolicy(), TinySimulator, episodes=3, video_episodes=2)
    there = evaluate(FakePolicy(), TinySimulator, episodes=3, video_episodes=2, workers=2)
    assert here.recordings == there.recordings
    assert np.array_equal(here.picture, there.picture)


def test_nothing_is_rendered_unless_someone_looks():
    made = []

    def make(observation):
        made.append(TinySimulator(observation))
        return made[-1]

    result = evaluate(FakePolicy(), make, episodes=3, n_envs=1)
    assert made[0].renders == 0
    assert (result.recordings, result.picture) == ([], None)


def test_an_environment_may_say_where_its_actions_are():
    class Sideways(TinySimulator):
        def action_pixels(self, actions, height, width):
            return actions[..., ::-1]

    assert action_projection(Sideways())(np.array([1, 2]), 9, 9).tolist() == [2, 1]


def test_where_actions_are_is_found_through_gymnasium_s_wrappers():
    wrapped = TimeLimit(OrderEnforcing(TinySimulator()), 5)
    assert action_projection(wrapped)(np.array([1, -1]), 10, 20).tolist() == [20, 0]


def test_bounded_actions_are_not_taken_for_places_in_the_scene():
    assert action_projection(gymnasium.make("MountainCarContinuous-v0")) is None
    planar = gymnasium.Env()
    planar.action_space = gymnasium.spaces.Box(-1, 1, (2,))
    assert action_projection(planar) is None


def test_each_sample_is_drawn_where_its_actions_are():
    policy = FakePolicy()
    moment = Moment(
        0, 0, {"position": np.zeros((2, 2), np.float32)}, pack_frame(plain(255, 100, 100))
    )
    drawn = {}
    for y in (20, 80):  # every action of the chunk lies on one horizontal line
        line = np.stack([np.linspace(10, 90, 8), np.full(8, y)], axis=-1)
        picture = chunk_picture(
            [moment],
            policy,
            lambda a, h, w, line=line: line[None] * [w / 100, h / 100],
            slice(1, 5),
        )
        edge = 2 * BORDER  # of the panel and of the picture
        scene = picture[edge + 2 * CAPTION_HEIGHT : -edge, edge:-edge]
        coloured = np.argwhere((scene.max(-1).astype(int) - scene.min(-1)) > 60)
        drawn[y] = coloured.mean(0) / scene.shape[:2] * 100
        columns = np.unique(coloured[:, 1]) / scene.shape[1] * 100
        assert columns[0] > 18  # the action before the executed ones is left out
    assert drawn[20][0] == pytest.approx(20, abs=2)
    assert drawn[80][0] == pytest.approx(80, abs=2)

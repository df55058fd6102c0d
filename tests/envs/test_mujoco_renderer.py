"""Pictures and depth of MuJoCo scenes."""

import numpy as np
import pytest

pytestmark = pytest.mark.heavy
mujoco = pytest.importorskip("mujoco")

SCENE = """
<mujoco>
  <visual><quality offsamples="4" shadowsize="64"/></visual>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    <geom type="sphere" size="0.2" pos="0 0 0.4" rgba="1 0 0 1"/>
    <geom type="sphere" size="0.2" pos="0 0 -0.4" rgba="0 1 0 1"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def scene():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture(scope="module")
def renderer(scene):
    from dipole.envs.media.mujoco_renderer import OffscreenRenderer

    return OffscreenRenderer(scene[0], 32, 48)


def test_a_picture_has_its_top_in_the_first_row(renderer, scene):
    picture = renderer.render(scene[1], "front")
    assert picture.shape == (32, 48, 3)
    assert picture.dtype == np.uint8
    red, green = picture[..., 0].astype(float), picture[..., 1].astype(float)
    assert (red - green)[:16].max() > 100
    assert (green - red)[16:].max() > 100
    assert (red - green)[16:].max() <= 0


def test_depth_is_in_metres_from_the_camera(renderer, scene):
    depth = renderer.depth(scene[1], "front")
    assert depth.shape == (32, 48, 1)
    assert depth.dtype == np.float32
    assert depth[:16].min() == pytest.approx(1.8, abs=0.02)


def test_a_picture_after_a_depth_is_a_picture_again(renderer, scene):
    before = renderer.render(scene[1], "front")
    renderer.depth(scene[1], "front")
    np.testing.assert_array_equal(renderer.render(scene[1], "front"), before)


def test_the_model_is_left_as_it_was(renderer, scene):
    quality, buffer = scene[0].vis.quality, scene[0].vis.global_
    assert (quality.offsamples, quality.shadowsize) == (4, 64)
    assert (buffer.offheight, buffer.offwidth) == (480, 640)


def test_closing_one_renderer_leaves_the_pictures_of_another(renderer, scene):
    from dipole.envs.media.mujoco_renderer import OffscreenRenderer

    large = OffscreenRenderer(scene[0], 100, 100)
    assert large.render(scene[1], "front").shape == (100, 100, 3)
    before = renderer.render(scene[1], "front")
    large.close()
    np.testing.assert_array_equal(renderer.render(scene[1], "front"), before)


def test_a_renderer_that_is_forgotten_leaves_the_pictures_of_another(renderer, scene):
    from dipole.envs.media.mujoco_renderer import OffscreenRenderer

    large = OffscreenRenderer(scene[0], 100, 100)
    large.render(scene[1], "front")
    before = renderer.render(scene[1], "front")
    del large
    np.testing.assert_array_equal(renderer.render(scene[1], "front"), before)

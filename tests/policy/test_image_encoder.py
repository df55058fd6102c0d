"""Cameras: sizes of the published networks, views, eyes, several cameras, what is refused."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import TINY_RESNET, cameras, features, make_policy

from dipole.apps.compose import compose
from dipole.data import ConfigError, Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.encoders.cameras.augmentation.augment import Augmentation
from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput
from dipole.policy.encoders.cameras.backbones.resnet import ResNet
from dipole.policy.encoders.cameras.camera_encoder import CameraEncoder
from dipole.policy.encoders.cameras.pooling import SpatialSoftmax
from dipole.policy.encoders.cameras.views import View, ViewConfig


def n_parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def policy_of(*words) -> Policy:
    """Composed as on the command line, without memory for its weights."""
    config = compose("train", ["task=pusht_image", *words])
    with torch.device("meta"):
        return Policy(
            PolicyConfig.from_dict(config["policy"]),
            Features.from_dict(config["task"]),
            WindowSpec(**config["task"]["window"]),
        )


def test_the_published_image_policy_has_its_published_size():
    policy = policy_of("policy=unet_image")
    assert n_parameters(policy.encoder) == 11_197_088
    assert n_parameters(policy.head.denoiser) == 251_511_938
    assert policy.encoder.spec.vector_dim == (64 + 2) * 2
    config = compose("train", ["task=pusht_image", "policy=unet_image"])
    assert config["train"]["batch_size"] == 64


def test_the_published_eye_is_a_resnet_with_16_channels_a_group_and_no_batchnorm():
    eye = cameras(policy_of("policy=unet_image")).encoder("image")
    norms = [m for m in eye.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert len(norms) == 20
    assert {m.num_channels // m.num_groups for m in norms} == {16}
    assert not [m for m in eye.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def test_the_one_arm_denoiser_has_its_published_size():
    from dipole.policy.denoisers.unet1d import ConditionalUnet1D

    with torch.device("meta"):
        unet = ConditionalUnet1D(10, 137 * 2, (512, 1024, 2048), time_embed_dim=128)
    assert n_parameters(unet) == 255_612_042


def test_the_resnet_quarters_the_picture_in_its_stem_and_halves_it_after_the_first_stage():
    for stem in ("pooled", "patches"):
        resnet = ResNet((16, 32, 48), (1, 2, 1), stem)
        assert resnet(torch.rand(2, 3, 64, 96)).features.shape == (2, 48, 4, 6)


@pytest.mark.parametrize("stem", ["pooled", "patches"])
def test_the_resnet_tells_the_size_of_its_map(stem):
    resnet = ResNet((16, 16, 16), (1, 1, 1), stem)
    for size in ((4, 12), (15, 16), (33, 34), (96, 71)):
        assert resnet.map_size(size) == resnet(torch.rand(1, 3, *size)).features.shape[2:]


THIN_RESNET18 = {"name": "resnet", "widths": [16, 16, 16, 16], "blocks": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        (THIN_RESNET18, (32, 32), "'front': of pictures of 32 x 32 .* map of 1 x 1 cells"),
        (THIN_RESNET18, (16, 64), "map of 1 x 2 cells, and SpatialSoftmax needs 2 x 2"),
        (THIN_RESNET18, (33, 33), None),
        (TINY_RESNET, (4, 32), "crop, resize.*, or choose policy.encoder.pooling.name=mean"),
        (TINY_RESNET, (12, 12), None),
    ],
)
@pytest.mark.filterwarnings("error:camera 'front'")
def test_where_a_map_could_not_tell_pictures_apart_the_camera_is_named(backbone, size, message):
    crop = {"backbone": backbone, "crop": list(size)}
    if message is not None:
        with pytest.warns(UserWarning, match=message):
            make_policy(features(front=(64, 64)), **crop)
        return
    policy = make_policy(features(front=(64, 64)), **crop).eval()
    one, other = policy.fake_observation(1), policy.fake_observation(1)
    other["agent_pos"] = one["agent_pos"]
    assert not torch.allclose(policy.encode(one).vector, policy.encode(other).vector, atol=1e-4)


def test_the_mean_needs_a_single_cell():
    mean = {"pooling": {"name": "mean"}}
    assert make_policy(crop=4, **mean).encoder.picture_dims == {"front": 6}
    with pytest.raises(ConfigError, match=r"'front': of pictures of 3 x 3 .* map of 0 x 0 cells"):
        make_policy(crop=3, **mean)


@pytest.mark.parametrize("dim", [0, -1])
def test_a_vector_has_at_least_one_number(dim):
    with pytest.raises(ConfigError, match=f"policy.encoder.dim is {dim}"):
        make_policy(dim=dim)


def test_a_keypoint_is_where_its_feature_is():
    pooling = SpatialSoftmax(channels=1, n_keypoints=1)
    torch.nn.init.constant_(pooling.logits.weight, 50.0)
    for row, column, expected in (
        (0, 0, [-1, -1]),
        (2, 4, [1, 1]),
        (1, 2, [0, 0]),
        (0, 3, [0.5, -1]),
    ):
        seen = torch.zeros(1, 1, 3, 5)
        seen[0, 0, row, column] = 1
        found = pooling.keypoints(BackboneOutput(seen))
        assert found.tolist() == [[pytest.approx(expected, abs=1e-5)]]


def view(shape=(8, 10, 3), resize=None, crop=None, **augment) -> View:
    return View(shape, ViewConfig(resize, crop), Augmentation(**augment), "front")


def pictures(rows=4, steps=2, height=8, width=10):
    """Each pixel says where it is: red its row, green its column, blue the sample."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    one = torch.stack([y, x, torch.zeros_like(x)], 2).to(torch.uint8)
    batch = one.repeat(rows, steps, 1, 1, 1)
    batch[..., 2] = torch.arange(rows, dtype=torch.uint8)[:, None, None, None]
    return batch


def test_in_evaluation_the_crop_is_the_middle():
    seen = view(crop=4).eval()(pictures()) * 255
    assert seen.shape == (8, 3, 4, 4)
    assert seen[0, 0, :, 0].tolist() == pytest.approx([2, 3, 4, 5])
    assert seen[0, 1, 0].tolist() == pytest.approx([3, 4, 5, 6])


def test_in_training_the_crop_is_anywhere_and_the_same_for_the_frames_of_a_sample():
    torch.manual_seed(0)
    seen = (view(crop=4).train()(pictures(rows=200)) * 255).round().unflatten(0, (200, 2))
    assert torch.equal(seen[:, 0], seen[:, 1])
    tops, lefts = seen[:, 0, 0, 0, 0], seen[:, 0, 1, 0, 0]
    assert sorted(set(tops.tolist())) == [0, 1, 2, 3, 4]
    assert sorted(set(lefts.tolist())) == [0, 1, 2, 3, 4, 5, 6]
    assert torch.equal(seen[:, 0, 0, :, 0], tops[:, None] + torch.arange(4))  # whole, in order
    assert torch.equal(seen[:, 0, 2, 0, 0], torch.arange(200.0))  # each from its own picture


def test_without_random_crops_training_sees_what_evaluation_sees():
    seen = View((8, 10, 3), ViewConfig(crop=4), Augmentation(crop=False), "front")
    assert torch.equal(seen.train()(pictures()), seen.eval()(pictures()))


def test_a_shift_reaches_past_the_edge_and_repeats_it():
    torch.manual_seed(0)
    shifted = View((8, 10, 3), ViewConfig(), Augmentation(shift=2), "front").train()
    seen = (shifted(pictures(rows=200)) * 255).round().unflatten(0, (200, 2))[:, 0]
    assert seen.shape == (200, 3, 8, 10)
    rows = {tuple(picture[0, :, 0].tolist()) for picture in seen}
    assert (0, 0, 0, 1, 2, 3, 4, 5) in rows
    assert (2, 3, 4, 5, 6, 7, 7, 7) in rows
    assert len(rows) == 5


def test_pictures_are_resized_before_they_are_cropped():
    small = view(resize=(4, 5), crop=(4, 4)).eval()
    assert small(pictures()).shape == (8, 3, 4, 4)
    grey = torch.full((1, 1, 8, 10, 3), 51, dtype=torch.uint8)
    assert torch.allclose(small(grey), torch.tensor(0.2))


def test_a_crop_may_be_a_share_of_the_picture():
    assert view(shape=(480, 640, 3), resize=(120, 160), crop=0.9).size == (108, 144)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 9}, "'front': a crop of 9 x 9 from pictures of 8 x 10"),
        ({"shape": (8, 10, 4)}, r"'front' has pictures of shape \[8, 10, 4\]"),
        ({"resize": (4, 0)}, r"'front': resize is \(4, 0\)"),
        ({"shift": -1}, "shift is -1"),
        ({"brightness": 2.0}, "brightness is 2.0"),
    ],
)
def test_views_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        view(**options)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_change_per_sample_in_training_only(name):
    torch.manual_seed(0)
    batch = torch.randint(256, (3, 1, 8, 10, 3), dtype=torch.uint8).repeat(1, 2, 1, 1, 1)
    changing = view(**{name: 0.5})
    plain = changing.eval()(batch)
    seen = changing.train()(batch)
    assert 0 <= seen.min() <= seen.max() <= 1
    frames = seen.unflatten(0, (3, 2))
    assert torch.allclose(frames[:, 0], frames[:, 1])
    changes = (seen - plain).abs().flatten(1).mean(1)[::2]
    assert len(set(changes.tolist())) == 3
    assert (changes > 0).all()


def test_an_eye_normalises_once():
    eye = CameraEncoder(TINY_RESNET, {"name": "mean"}, dim=4)
    seen = []
    eye.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    eye(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8))
    assert seen[0][:, 0, 0, 0].tolist() == [-1, 0, 1]


def test_in_eval_mode_the_encoder_is_deterministic_and_in_training_it_is_not():
    policy = make_policy(crop=24, augment={"shift": 2, "brightness": 0.2, "contrast": 0.2})
    observation = policy.fake_observation(3)
    once, again = (policy.encode(observation).vector for _ in range(2))
    assert not torch.equal(once, again)
    policy.eval()
    torch.manual_seed(1)
    once = policy.encode(observation).vector
    torch.manual_seed(2)
    assert torch.equal(once, policy.encode(observation).vector)


def test_the_context_is_time_major_with_cameras_before_state():
    policy = make_policy(features(front=(32, 32), wrist=(16, 24))).eval()
    observation = policy.fake_observation(3)
    vector = policy.encode(observation).vector
    assert vector.shape == (3, 2 * (6 + 6 + 2))
    encoder = cameras(policy)
    for name, start in (("front", 0), ("wrist", 6)):
        image = encoder.views[name](observation[name])
        expected = encoder.encoder(name)(image).unflatten(0, (3, 2))
        assert torch.allclose(vector.unflatten(1, (2, 14))[:, :, start : start + 6], expected)
    state = policy.normalizers["agent_pos"].normalize(observation["agent_pos"])
    assert torch.equal(vector.unflatten(1, (2, 14))[:, :, 12:], state)


def test_each_camera_has_its_own_eye_unless_it_is_shared():
    three = features(front=(32, 32), wrist=(16, 24), back=(32, 32))
    assert sorted(cameras(make_policy(three)).encoders) == ["back", "front", "wrist"]
    shared = make_policy(three, shared_backbone=True)
    assert list(cameras(shared).encoders) == ["shared"]
    assert n_parameters(shared.encoder) * 3 == n_parameters(make_policy(three).encoder)


def test_pictures_of_one_size_go_through_a_shared_eye_in_one_batch():
    policy = make_policy(
        features(front=(32, 32), wrist=(16, 24), back=(32, 32)), shared_backbone=True
    ).eval()
    batches = []
    cameras(policy).encoder("front").backbone.register_forward_pre_hook(
        lambda _, given: batches.append(tuple(given[0].shape))
    )
    observation = policy.fake_observation(3)
    together = policy.encode(observation).vector.unflatten(1, (2, -1))
    assert batches == [(12, 3, 32, 32), (6, 3, 16, 24)]
    alone = cameras(policy).encoder("back")(cameras(policy).views["back"](observation["back"]))
    assert torch.allclose(together[:, :, 12:18], alone.unflatten(0, (3, 2)), atol=1e-6)


def test_sizes_may_be_said_by_camera():
    two = features(front=(32, 32), wrist=(16, 24))
    policy = make_policy(two, resize={"front": [16, 16]}, crop={"wrist": 12})
    assert cameras(policy).views["front"].size == (16, 16)
    assert cameras(policy).views["wrist"].size == (12, 12)
    with pytest.raises(ConfigError, match="crop: no camera 'writs'; there are front, wrist"):
        make_policy(two, crop={"writs": 12})


def test_a_missing_camera_is_named():
    policy = make_policy(features(front=(32, 32), wrist=(16, 24))).eval()
    observation = policy.fake_observation(1)
    del observation["wrist"]
    with pytest.raises(ConfigError, match="no 'wrist'; it has front, agent_pos"):
        policy.predict(observation)


def test_a_camera_of_another_resolution_is_named():
    policy = make_policy().eval()
    observation = policy.fake_observation(1)
    observation["front"] = observation["front"][:, :, :16]
    with pytest.raises(ConfigError, match=r"'front' has shape \[1, 2, 16, 32, 3\]"):
        policy.predict(observation)


def test_arrays_that_were_turned_round_are_what_their_copies_are():
    policy = make_policy().eval()
    observation = {name: value.numpy() for name, value in policy.fake_observation(1).items()}
    turned = {"front": observation["front"][:, :, ::-1, :, ::-1]}
    turned["agent_pos"] = observation["agent_pos"][..., ::-1]
    copies = {name: value.copy() for name, value in turned.items()}
    noise = torch.zeros(1, 8, 2)
    assert torch.equal(policy.predict(turned, noise=noise), policy.predict(copies, noise=noise))
    looks = [
        policy.saliency({name: value[0] for name, value in each.items()})
        for each in (turned, copies)
    ]
    assert (looks[0]["front"].picture == looks[1]["front"].picture).all()


def test_images_have_no_normaliser_and_other_features_cannot_be_left_to_the_eye():
    assert sorted(make_policy().normalizers) == ["action", "agent_pos"]
    assert Feature((8, 8, 3), kind="image").normalize == "image"
    with pytest.raises(ConfigError, match="'image' normalised by 'limits'"):
        Feature((8, 8, 3), kind="image", normalize="limits")
    with pytest.raises(ConfigError, match="'state' normalised by 'image'"):
        Feature((8,), normalize="image")


def test_pictures_that_are_not_bytes_are_refused():
    policy = make_policy().eval()
    observation = policy.fake_observation(1)
    observation["front"] = observation["front"].float() / 255
    with pytest.raises(ConfigError, match="'front' is float32: pictures are uint8, 0 to 255"):
        policy.predict(observation)


def test_an_encoder_without_a_camera_is_refused():
    with pytest.raises(ConfigError, match="agent_pos are no features of kind depth or image"):
        make_policy(features())


def test_gradients_reach_every_parameter():
    policy = make_policy(crop=24)
    policy.loss(policy.fake_batch(4)).backward()
    assert [n for n, p in policy.named_parameters() if p.grad is None] == []


def without(observation, *cameras):
    return {name: value for name, value in observation.items() if name not in cameras}


def test_a_policy_trained_without_some_cameras_does_without_them():
    policy = make_policy(features(front=(32, 32), wrist=(16, 24)), camera_dropout=0.5)
    torch.nn.init.constant_(cameras(policy).missing.vectors["wrist"], 7.0)
    policy.loss(policy.fake_batch(16)).backward()
    assert cameras(policy).missing.vectors["front"].grad is not None
    policy.eval()
    observation = policy.fake_observation(2)
    vector = policy.encode(observation).vector.unflatten(1, (2, 14))
    blind = policy.encode(without(observation, "wrist")).vector.unflatten(1, (2, 14))
    assert torch.equal(blind[:, :, :6], vector[:, :, :6])
    assert (blind[:, :, 6:12] == 7.0).all()
    assert (vector[:, :, 6:12] != 7.0).any()
    assert policy.predict(without(observation, "wrist", "front")).shape == (2, 8, 2)
    with pytest.raises(ConfigError, match="no 'agent_pos'"):
        policy.predict(without(observation, "agent_pos"))


def test_in_training_cameras_are_taken_from_whole_samples():
    torch.manual_seed(0)
    policy = make_policy(camera_dropout=0.3)
    torch.nn.init.constant_(cameras(policy).missing.vectors["front"], 7.0)
    vector = policy.encode(policy.fake_observation(400)).vector.unflatten(1, (2, 8))
    taken = (vector[:, :, :6] == 7.0).all(2)
    assert torch.equal(taken[:, 0], taken[:, 1])
    assert 0.2 < taken[:, 0].float().mean() < 0.4

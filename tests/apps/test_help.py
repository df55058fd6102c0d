"""Each setting is explained by the comment behind it, which `--help KEY` prints."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dipole.apps.compose import run
from dipole.apps.compose.configuration import checking
from dipole.apps.compose.explanation import key_comments
from dipole.apps.compose.options import Options
from dipole.apps.compose.overrides import keys_of
from dipole.apps.terminal.errors import UsageError


def choices(group):
    """What ships: one file a choice."""
    folder = Path(__file__).parents[2] / "configs" / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


EVERYTHING = [
    ("train", ["policy=unet"]),
    ("train", ["policy=unet_small"]),
    ("train", ["policy=unet_quick"]),
    ("train", ["policy=unet_image", "task=pusht_image"]),
    ("train", ["policy=unet_image_small"]),
    ("train", ["task=fork"]),
    ("train", ["task=fork_labelled"]),
    *(("train", [f"task=metaworld/{name}"]) for name in ("mt10", "mt10_words", "image")),
    *(("train", [f"task=aloha/{name}"]) for name in ("insertion", "transfer_cube_image")),
    *(("train", [f"task=robosuite/{name}"]) for name in ("transport", "image")),
    ("train", ["policy=unet_image_pretrained"]),
    *(("train", [f"policy/process={name}"]) for name in ("flow", "edm")),
    *(("train", [f"policy/prediction={name}"]) for name in ("v", "edm")),
    ("train", ["policy/head=regression"]),
    ("train", ["task=pusht_image", "policy=unet_image_small", "objective=auxiliary"]),
    ("train", ["policy=dit_small"]),
    ("train", ["policy/denoiser=dit"]),
    ("train", ["policy=unet_plan", "task=maze/medium"]),
    ("train", ["policy/guidance=classifier_free"]),
    ("train", ["task=fork", "policy/encoder=state_text"]),
    ("evaluate", ["solver=ddpm"]),
    *(
        ("evaluate", [f"solver={name}"])
        for name in ("euler", "heun", "plms", "dpmpp_2m", "dpmpp_3m")
    ),
    ("evaluate", ["cluster=ray"]),
    ("deploy", ["deploy=rtc"]),
    ("deploy", ["deploy=cross_fade", "solver=ddim"]),
    ("deploy", ["deploy=ensemble"]),
    ("serve", []),
    ("export", []),
    ("bench", []),
    ("record", []),
    ("record", ["cluster=ray"]),
]


@pytest.mark.parametrize(("name", "words"), EVERYTHING)
def test_each_setting_is_explained(name, words):
    with checking(name, Options([])) as checker:
        comments = key_comments(checker, words)
        settings = OmegaConf.to_container(checker.compose(words))
    keys = [key for key in keys_of(settings) if not key.rpartition(".")[2].isdigit()]
    open_ended = "train.learning_rates."
    assert [k for k in keys if k not in comments and not k.startswith(open_ended)] == []


def test_help_of_a_key_says_what_its_comment_says(capsys):
    assert run("train", ["--help", "train.warmup_steps"], lambda c: pytest.fail("a job ran")) == 0
    assert capsys.readouterr().out == (
        "train.warmup_steps=500\n  during which the learning rate rises from 0\n"
    )


def test_help_of_a_key_has_its_present_value_and_choices(capsys):
    assert run("train", ["policy=unet", "--help", "policy", "train.steps"], lambda c: 1) == 0
    shown = capsys.readouterr().out
    assert f"  choices: policy={'|'.join(choices('policy'))}\n" in shown
    assert (
        "  policy.denoiser.time_embed_dim=256  # size of the embedding of the noise level" in shown
    )
    assert "train.steps=100000\n  updates of the weights" in shown


def test_help_of_a_user_s_key_is_the_user_s_comment(my_configs, capsys):
    file = my_configs / "task/mine.yaml"
    file.write_text("name: mine\nspeed: 3 # of the belt, m/s\nwindow: {horizon: 16}\n")
    argv = ["--config-dir", str(my_configs), "task=mine", "--help", "task.speed"]
    assert run("train", [*argv, "task.window.horizon"], lambda c: 1) == 0
    shown = capsys.readouterr().out
    assert "task.speed=3\n  of the belt, m/s" in shown
    assert "task.window.horizon=16\n  actions of a chunk" in shown  # as the shipped tasks say


def test_help_of_an_unknown_key_names_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean 'train\.steps'"):
        run("train", ["--help", "train.stesp"], lambda config: 1)

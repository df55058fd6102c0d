"""Whatever is mistyped of a composed command exits with 2, without a traceback."""

import pytest

from dipole.apps.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --multirn", "unknown option '--multirn', did you mean '--multirun'?"),
        ("train --help train.stps", "did you mean 'train.steps'?"),
        ("train --help=train.stps", "did you mean 'train.steps'?"),
        ("train --cfg=x", "--cfg takes no value"),
        ("train --config-dir", "--config-dir needs a folder: --config-dir DIR"),
        ("train --config-dir --cfg", "--config-dir needs a folder: --config-dir DIR"),
        ("train --train.steps=3", "settings are written without dashes: train.steps=VALUE"),
        ("train =3", "cannot read '=3': write KEY=VALUE"),
        ("train train.betas=[0.9,0.95", "']' is missing"),
        ("train +tsk=pusht_state", "unknown key 'tsk', did you mean 'task'?"),
        ("train policy=null", "unknown choice policy=null. Choices of policy: dit_small, unet, "),
        ("train task=null", "unknown choice task=null. There are "),
        ("train hydra.foo=1", "unknown key 'hydra.foo'"),
        (
            "train policy/head=regression policy/process=edm",
            "policy/process is set, but head 'regression' has no process: leave it out",
        ),
        (
            "train policy/head=regression policy.prediction.name=v",
            "policy.prediction.name is set, but head 'regression' has no prediction",
        ),
        (
            "train policy/process=edm policy.process.sigma_min=a",
            "option 'sigma_min' of process 'edm' is 'a': a number is needed",
        ),
        (
            "train policy=dit_small policy/guidance=classifier_free policy.guidance.parts=text",
            "policy.guidance.parts is 'text': a list of texts or null is needed",
        ),
        ("deploy -m seed=0,1", "one job at a time: leave out --multirun"),
        ("serve -m checkpoint=a,b", "one job at a time: leave out --multirun"),
        ("serve checkpoint=a port=abc", "server.port is 'abc': a whole number is needed"),
        ("serve checkpoint=a threads=two", "threads is 'two': a whole number or null is needed"),
        ("evaluate checkpoint=a episodes=abc", "episodes is 'abc': a whole number is needed"),
        ("evaluate checkpoint=a episodes=1.5", "episodes is 1.5: a whole number is needed"),
        ("evaluate checkpoint=a episodes=0", "episodes is 0; it must be at least 1"),
        ("evaluate checkpoint=a picture=maybe", "picture is 'maybe': true or false is needed"),
        ("evaluate checkpoint=a merger=swich", "did you mean 'switch'"),
        ("evaluate checkpoint=a merger=rtc", "merger=rtc, and no delay: chunks are merged by"),
        ("evaluate checkpoint=a +merger_options.steps=2", "merger_options={'steps': 2}, and no"),
        ("evaluate checkpoint=a delay=2 workers=2", "workers=2 with delay=2: the control loop's"),
        ("evaluate checkpoint=a delay=2 threads=4", "threads=4 with delay=2"),
        ("evaluate checkpoint=a delay=0 n_envs=8", "n_envs=8 with delay=0"),
        ("evaluate checkpoint=a delay=2 video_episodes=3", "video_episodes=3 with delay=2"),
        ("evaluate checkpoint=a delay=2 video=failures", "video=failures with delay=2: no video"),
        ("evaluate checkpoint=a delay=2 keep_episodes=a.zarr", "control loop are not kept"),
        ("export checkpoint=a to=onx", "unknown runtime 'onx', did you mean 'onnx'?"),
        (
            "export checkpoint=a batch_sizes=1",
            "batch_sizes is 1: a list of whole numbers is needed",
        ),
        ("bench figures=training", "figures is 'training': a list of texts is needed"),
        ("bench seconds=long", "seconds is 'long': a number is needed"),
        (
            "train train.evaluate_every=1 evaluate.episodes=ten dataset=bundled:pusht",
            "evaluate.episodes is 'ten': a whole number is needed",
        ),
        (
            "train train.evaluate_every=0 +evaluate.episode=10 dataset=bundled:pusht",
            "there is no evaluate.episode, did you mean 'episodes'",
        ),
        (
            "train train.evaluate_every=0 evaluate.episodes=0 dataset=bundled:pusht",
            "evaluate.episodes is 0: it must be at least 1",
        ),
    ],
)
def test_what_is_mistyped_exits_with_2_and_says_what_is_meant(
    words, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "usage:" not in shown.err + shown.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "listed"), [("train", True), ("serve", False)])
def test_help_lists_multirun_only_where_it_works(command, listed, capsys):
    assert main([command, "--help"]) == 0
    assert ("--multirun" in capsys.readouterr().out) == listed


def test_help_without_choices_has_no_heading_for_them(capsys):
    assert main(["bench", "--help"]) == 0
    assert "Choices:" not in capsys.readouterr().out


def test_cfg_may_be_written_as_hydra_does(capsys):
    assert main(["train", "--cfg", "job", "train.steps=4"]) == 0
    assert "steps: 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["token=SECRET-of-mine,other"],
        ["token=[SECRET-of-mine"],
        ["token={SECRET-of-mine:"],
        ["token=SECRET-of-mine=x y:,"],
        ["client.token=SECRET-of-mine"],
        ["--token=SECRET-of-mine"],
        ["toke=SECRET-of-mine"],
        ["token=SECRET-of-mine", "token=SECRET-of-mine"],
        ["--help", "token", "token=SECRET-of-mine"],
        ["--cfg", "token=SECRET-of-mine"],
    ],
)
def test_a_secret_is_never_printed(words, capsys):
    main(["serve", "checkpoint=x", *words])
    shown = capsys.readouterr()
    assert "SECRET" not in shown.out + shown.err
    assert "token" in shown.out + shown.err or "toke" in shown.err

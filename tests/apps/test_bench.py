"""`dipole bench`: contestants in turns, ratios within rounds, a table and JSON."""

import json
from functools import partial

import pytest
import torch

from dipole.apps.commands.bench import bench
from dipole.apps.compose import compose
from dipole.benchmarks.figures import chunks, definitions, images, pusht, training, turns
from dipole.benchmarks.figures.definitions import PLAIN, Figure
from dipole.benchmarks.figures.networks import denoiser_of, our_policy, training_flops
from dipole.benchmarks.figures.report import describe, show, table
from dipole.benchmarks.figures.turns import (
    LEAST_ROUNDS,
    Contestant,
    ContestantError,
    Times,
    ratios,
    take_turns,
)
from dipole.data import ConfigError

NOISY = [2.0, 20.0, 4.0]  # a round in which the machine was busy


def test_a_busy_moment_slows_both_and_leaves_their_ratio():
    found = ratios(NOISY, [each / 2 for each in NOISY])
    assert found == {"median": 2, "p10": 2, "p90": 2, "least": 2}


def test_a_figure_says_how_much_of_the_limit_is_reached(capsys):
    figure = Figure("a step", {}, {PLAIN: 500.0, "dipole": 500.0}, "half a second")
    times = {
        PLAIN: Times(NOISY, NOISY, {"threads": "1 (1: 2000 ms)"}),
        "dipole": Times([1.0, 10.0, 2.0], [1.0, 10.0, 2.0]),
    }
    described = describe(figure, times)
    assert described["ways"]["dipole"]["ms"]["median"] == 2000
    assert described["ways"]["dipole"]["times_plain"]["median"] == 2
    show(table(described))
    printed = capsys.readouterr().out
    assert "2,000" in printed
    assert "25%" in printed


def test_turns_are_counted_per_thing_measured():
    steps = {"observation": ("state",), "steps": 40}
    times = take_turns({"ours": Contestant(pusht.our_steps, steps, per_turn=40)}, seconds=0)
    assert len(times["ours"].clock) == LEAST_ROUNDS
    assert all(0 < second < 0.1 for second in times["ours"].processor)


def test_contestants_get_ready_one_after_another(monkeypatch):
    happened = []

    class Runner:
        def __init__(self, name, contestant):
            self.name = name
            happened.append(f"{name} starts")

        def ready(self):
            happened.append(f"{self.name} is ready")
            return {}

        def turn(self):
            return 1.0, 1.0

        def stop(self):
            pass

    monkeypatch.setattr(turns, "_Runner", Runner)
    take_turns({"a": Contestant(print), "b": Contestant(print)}, seconds=0)
    assert happened == ["a starts", "a is ready", "b starts", "b is ready"]


def test_the_plain_way_waits_as_torch_has_it_wait(monkeypatch):
    """Whatever `dipole bench` itself was told."""
    monkeypatch.setattr(definitions, "_runtimes", lambda config: ["eager"])
    config = compose("bench", [])
    limits = {"1": {"gemm_gflops": {"float32": 1.0, "bfloat16": 1.0}, "read_gb_s": 1.0}}
    found = [
        f for f in definitions.all_figures(config, 1, limits) if not f.name.startswith("Push-T")
    ]
    assert len(found) >= 4
    for figure in found:
        assert figure.contestants[PLAIN].environment == {"OMP_WAIT_POLICY": None}, figure.name


def test_an_evaluation_on_all_cores_is_compared_with_one_thread(monkeypatch, capsys):
    monkeypatch.setattr(definitions, "_runtimes", lambda config: ["eager"])
    config = {**compose("bench", []), "figures": ["evaluation"]}
    _, cores = definitions.all_figures(config, 2, {"2": {}})
    assert list(cores.contestants) == ["1 thread, from Python", "1 thread", "2 threads"]
    assert {c.options["episodes"] for c in cores.contestants.values()} == {32}  # two batches
    times = {name: Times([1 / k] * 3, [1.0] * 3) for k, name in enumerate(cores.contestants, 1)}
    show(table(describe(cores, times)))
    assert "× first" in capsys.readouterr().out
    (alone,) = definitions.all_figures(config, 1, {"1": {}})
    assert list(alone.contestants) == ["plain", "dipole"]


def test_the_longest_names_fit_into_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    longest = "dipole openvino_bf16"
    figure = Figure("a chunk", {}, {PLAIN: 12345.0, longest: 12345.0}, "its weights")
    facts = {"threads": "2 dividing rows (1: 2000 ms)"}
    times = {PLAIN: Times([12.3] * 3, [12.3] * 3, facts), longest: Times([0.6] * 3, [0.6] * 3)}
    show(table(describe(figure, times)))
    printed = capsys.readouterr().out
    assert longest in printed
    assert "20.5-20.5" in printed
    assert "…" not in printed


def test_a_contestant_that_fails_is_named():
    wrong = Contestant(pusht.our_steps, {"observation": ("sound",), "steps": 1})
    with pytest.raises(ContestantError, match=r"ours: ConfigError: pusht has no .*'sound'"):
        take_turns({"ours": wrong}, seconds=0)


def test_plain_and_ours_predict_the_same_chunk():
    options = {"network": "unet_small", "batch": 1, "threads": 1, "steps": 2}
    _, plain = chunks.plain(**options)
    _, ours = chunks.ours(**options, runtime="eager")
    assert torch.allclose(torch.tensor(ours["chunk"]), torch.tensor(plain["chunk"]), atol=1e-4)


@pytest.mark.parametrize("make", [training.plain_step, partial(training.our_step, bf16=True)])
def test_a_training_step_runs(make):
    work, facts = make("unet_small", batch=2, threads=1)
    work()
    assert facts["threads"].startswith("1 (1: ")


def test_operations_are_counted_as_the_published_network_has_them():
    policy = our_policy("unet_small")
    parameters = sum(p.numel() for p in policy.head.denoiser.parameters())
    # A weight is used at least once per row, and at most at each of 16 frames.
    assert 6 * parameters < training_flops("unet_small", batch=1) < 6 * 16 * parameters


@pytest.mark.heavy
def test_the_command_prints_tables_and_writes_json(tmp_path, capsys):
    output = tmp_path / "deep" / "bench.json"
    arguments = ["figures=[pusht]", "seconds=0.01", "threads=1", f"output={output}"]
    assert bench(compose("bench", arguments)) == 0
    report = json.loads(output.read_text())
    assert [figure["name"] for figure in report["figures"]] == [
        "Push-T step, state",
        "Push-T step, pixels",
    ]
    assert report["limits"]["1"]["gemm_gflops"]["float32"] > 0
    assert "Push-T step, state" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("figures=[chunks]", "figures has no 'chunks', did you mean 'chunk'"),
        ("runtimes=[openvimo]", "did you mean 'openvino'"),
        ("seconds=0", "seconds is 0"),
        ("threads=0", "threads is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        bench(compose("bench", [override]))


@pytest.fixture
def image_policies():
    """Ours and the plain one, with the same weights."""
    ours = images.our_policy("unet_image_small").eval()
    plain = images.PlainImagePolicy("unet_image_small").eval()
    camera = ours.encoder.encoders["cameras"].encoder("image")
    plain.resnet.load_state_dict(camera.backbone.state_dict())
    plain.pooling.load_state_dict(camera.pooling.state_dict())
    plain.project.load_state_dict(camera.project.state_dict())
    plain.unet.load_state_dict(denoiser_of(ours).state_dict())
    return ours, plain


def test_the_plain_image_policy_computes_what_ours_does(image_policies, monkeypatch):
    ours, plain = image_policies
    pictures, state, _ = images._batch(2)
    with torch.no_grad():
        found = ours.encode({"image": pictures, "agent_pos": state}).vector
        floats = pictures.permute(0, 1, 4, 2, 3).float() / 255
        wanted = plain.context(floats, state)
        assert torch.allclose(found, wanted, atol=1e-4)
        monkeypatch.setattr(images, "random_crops", images.middle_crops)
        assert torch.equal(plain.train().context(floats, state), wanted)


def test_chunks_from_pixels_are_the_plain_way_s(image_policies, monkeypatch):
    ours, plain = image_policies
    monkeypatch.setattr(images, "our_policy", lambda network: ours)
    monkeypatch.setattr(images, "PlainImagePolicy", lambda network: plain)
    _, wanted = images.plain_chunks("unet_image_small", threads=1)
    _, found = images.our_chunks("unet_image_small", threads=1, runtime="eager")
    assert torch.tensor(found["chunk"]).shape == (16, 2)
    assert torch.allclose(torch.tensor(found["chunk"]), torch.tensor(wanted["chunk"]), atol=1e-3)


def test_a_step_from_pixels_multiplies_as_the_layers_say():
    first = 2 * 32 * 48 * 21 * 21 * 2  # operations of the first layer, two pictures
    rest = images.training_flops("unet_image_small", batch=1) - 2 * first
    assert 2 * images.training_flops("unet_image_small", batch=1) == images.training_flops(
        "unet_image_small", batch=2
    )
    assert rest > 3 * 2 * 2 * 2 * 32 * 32 * 9 * 21 * 21  # two 3x3 layers on 21x21, and more

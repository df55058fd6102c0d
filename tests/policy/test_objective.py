"""Objectives: several updates, optimisers and averages in one loop, and exact resumption."""

import hashlib
import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from training_fixture import make_trainer, stop_at, write_dataset

from dipole.data import CheckpointError, ConfigError
from dipole.policy import load_policy
from dipole.policy.checkpoint import checkpoints_of, read_config
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.heads.base import ChunkBatch, Loss
from dipole.policy.training import (
    Average,
    BehaviourCloning,
    EMAConfig,
    Frozen,
    Objective,
    ParameterGroup,
)
from dipole.policy.training.optimization import updates
from dipole.policy.training.output.logs import read_log
from dipole.policy.training.output.result import TrainResult
from dipole.policy.training.process.randomness import seed_step
from dipole.policy.training.process.rank import Rank

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text()
REGRESSION = {"head": {"name": "regression"}}
DIFFUSION = {"head": {"name": "diffusion", "solver": {"name": "ddim", "steps": 2}}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "walk.zarr")


@pytest.fixture(autouse=True)
def objectives():
    """Objectives that a test adds are taken away again."""
    before = dict(OBJECTIVES._table)
    yield
    OBJECTIVES._table.clear()
    OBJECTIVES._table.update(before)


@pytest.fixture
def adversarial():
    """The objective on the architecture page, as it stands."""
    code = re.search(r"## An objective of one's own.*?```python\n(.*?)```", PAGE, re.DOTALL)[1]
    exec(compile(code, "docs/architecture.md", "exec"), {})
    return {"name": "adversarial_cloning", "weight": 0.5}


def files_of(run):
    """Every tensor of the newest checkpoint, by file and name."""
    folder = checkpoints_of(run)[-1]
    return {
        f"{path.name}:{name}": tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same_bits(run, other):
    ours, theirs = files_of(run), files_of(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


class Target(Objective):
    """Towards a slow average of the policy itself, whose decay is 0.5, and a frozen teacher."""

    def __init__(self, policy, teacher=None):
        super().__init__(policy)
        self.teacher = None if teacher is None else Frozen.of_policy(teacher)

    def averages(self):
        slow = EMAConfig(power=0.1, max_decay=0.5)
        return {**super().averages(), "target": Average(self.policy, slow)}

    def forward(self, batch, *, update="policy", step=0):
        loss = self.policy(batch).total
        with torch.no_grad():
            target = self.average("target")(batch).total
        return Loss(loss + (loss - target) ** 2, {"target": target})


@pytest.mark.parametrize(
    "options", [{"policy": REGRESSION}, {"policy": DIFFUSION, "accumulate": 2, "batch_size": 4}]
)
def test_an_adversarial_pair_resumes_with_the_bits_of_the_run_that_was_never_stopped(
    tmp_path, dataset, adversarial, options
):
    """The generator is one evaluation of a network, or a diffusion policy with its solver."""
    options = {"objective": adversarial, "steps": 4, "checkpoint_every": 2, **options}
    make_trainer(tmp_path / "whole", dataset, **options).fit()
    stop_at(make_trainer(tmp_path / "broken", dataset, **options), 3)  # it has saved step 2
    make_trainer(tmp_path / "broken", dataset, **options).fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")
    names = {path.name for path in checkpoints_of(tmp_path / "whole")[-1].iterdir()}
    assert {"helpers.safetensors", "training.discriminator.safetensors"} <= names
    updates = [k for k in files_of(tmp_path / "whole") if k.endswith("3.weight/step")]
    assert float(files_of(tmp_path / "whole")[updates[0]]) == 2  # every second step


def test_such_a_run_is_loaded_as_any_other(tmp_path, dataset, adversarial):
    trainer = make_trainer(tmp_path, dataset, objective=adversarial, policy=REGRESSION, steps=2)
    trainer.fit()
    loaded, averaged = load_policy(tmp_path).state_dict(), trainer.state.ema.model.state_dict()
    assert loaded.keys() == averaged.keys()
    assert all(torch.equal(loaded[name], averaged[name]) for name in loaded)


def test_an_update_changes_its_own_parameters_alone(tmp_path, dataset, adversarial):
    trainer = make_trainer(tmp_path, dataset, objective=adversarial, policy=REGRESSION)
    trainer.progress = type("Silent", (), {"advance": lambda *_: None})()
    objective, batches = trainer.state.objective, trainer.loader.batches(0)
    trainer._step(batches)  # of learning rate 0
    for update, part in (("discriminator", "discriminator."), ("policy", "policy.")):
        objective.updates = lambda step, update=update: [update]
        before = {name: p.detach().clone() for name, p in objective.named_parameters()}
        trainer._step(batches)
        changed = {n for n, p in objective.named_parameters() if not torch.equal(p, before[n])}
        assert changed
        assert all(name.startswith(part) for name in changed)
    assert all(p.grad is None for p in objective.parameters())


def test_a_helper_s_learning_rate_and_decay_are_the_objective_s_or_the_user_s(
    tmp_path, dataset, adversarial
):
    def groups(**changes):
        trainer = make_trainer(
            tmp_path, dataset, objective=adversarial, policy=REGRESSION, **changes
        )
        found = trainer.state.optimizers["discriminator"].param_groups
        return [(g["ratio"], g["weight_decay"]) for g in found]

    assert groups() == [(2, 1e-6)]
    own = {"learning_rates": {"discriminator": 5e-3}, "weight_decays": {"discriminator": 0.5}}
    assert groups(**own) == [(5.0, 0.5)]


def test_losses_are_logged_by_update_and_part(tmp_path, dataset, adversarial):
    options = {"objective": adversarial, "policy": REGRESSION, "steps": 2, "log_every": 2}
    make_trainer(tmp_path, dataset, **options).fit()
    train, validation = read_log(tmp_path / "log.jsonl")
    weighted = train["train/loss/cloning"] + 0.5 * train["train/loss/adversarial"]
    assert train["train/loss"] == pytest.approx(weighted, rel=1e-5)
    assert train["train/discriminator/loss"] == pytest.approx(2, abs=0.5)
    assert {"train/discriminator/loss/margin", "train/gradient_norm"} <= train.keys()
    for kind in ("loss", "loss_ema"):
        parts = [validation[f"validation/{kind}/{part}"] for part in ("cloning", "adversarial")]
        assert validation[f"validation/{kind}"] == pytest.approx(parts[0] + 0.5 * parts[1])


def test_further_averages_are_kept_and_resumed(tmp_path, dataset):
    OBJECTIVES.add("target")(Target)
    options = {"objective": {"name": "target"}, "policy": REGRESSION, "steps": 5}
    make_trainer(tmp_path / "whole", dataset, **options).fit()
    stop_at(make_trainer(tmp_path / "broken", dataset, **options), 4)
    resumed = make_trainer(tmp_path / "broken", dataset, **options)
    resumed.fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "broken")
    files = files_of(tmp_path / "whole")
    name = "head.denoiser.final.1.weight"
    averages = [files[f"{stem}.safetensors:{name}"] for stem in ("model", "ema", "ema.target")]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(averages))
    assert resumed.state.objective.average("target") is resumed.state.averages["target"].model


def test_a_teacher_is_named_and_not_copied_and_a_run_goes_on_with_the_same_alone(tmp_path, dataset):
    OBJECTIVES.add("target")(Target)
    make_trainer(tmp_path / "teacher", dataset, policy=REGRESSION, steps=2).fit()
    make_trainer(tmp_path / "other", dataset, policy=REGRESSION, steps=2, seed=1).fit()
    options = {"policy": REGRESSION, "steps": 2}
    taught = {"name": "target", "teacher": str(tmp_path / "teacher")}
    trainer = make_trainer(tmp_path / "run", dataset, objective=taught, **options)
    teacher = trainer.state.objective.teacher
    assert not teacher.module.training
    assert not any(p.requires_grad for p in teacher.parameters())
    trainer.fit()
    assert not any("teacher" in name for name in files_of(tmp_path / "run"))
    weights = tmp_path / "teacher/checkpoints/00000002/ema.safetensors"
    source = read_config(checkpoints_of(tmp_path / "run")[-1])["frozen"]["teacher"]
    assert source["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    make_trainer(tmp_path / "run", dataset, objective=taught, **options)
    taught = {**taught, "teacher": str(tmp_path / "other")}
    with pytest.raises(CheckpointError, match=r"trained with teacher of .*00000002, SHA-256"):
        make_trainer(tmp_path / "run", dataset, objective=taught, **options)


def test_a_checkpoint_of_another_objective_is_refused(tmp_path, dataset, adversarial):
    make_trainer(tmp_path, dataset, objective=adversarial, policy=REGRESSION, steps=1).fit()
    with pytest.raises(CheckpointError, match=r"of another objective: discriminator.* too much"):
        make_trainer(tmp_path, dataset, policy=REGRESSION)


class Wrong(BehaviourCloning):
    """See the test below."""

    case = ""

    def __init__(self, policy):
        super().__init__(policy)
        self.helper = torch.nn.Linear(2, 1)
        if self.case == "clash":
            self.encoder = torch.nn.Linear(2, 1)

    def parameter_groups(self):
        own = list(self.helper.parameters())
        given = {
            "stranger": [torch.nn.Parameter(torch.zeros(3))],
            "twice": [*own, own[0]],
            "nothing": [],
        }
        group = ParameterGroup(given.get(self.case, own))
        name = "a/b" if self.case == "name" else "helper"
        return {**super().parameter_groups(), name: [group]}

    def averages(self):
        return {} if self.case == "unaveraged" else super().averages()

    def updates(self, step):
        return {"unknown": ["polcy"], "empty": []}.get(self.case, ["policy"])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("clash", r"helper named 'encoder', as the policy has a part"),
        ("stranger", r"a parameter of shape \[3\] that is not the objective's"),
        ("twice", r"update 'helper': helper.weight is given twice"),
        ("nothing", r"update 'helper' has no parameter that is trained"),
        ("name", r"'a/b' as the name of an update"),
        ("unaveraged", r"averages has nothing: it needs 'policy'"),
        ("unknown", r"updates\(0\) names 'polcy', did you mean 'policy'\?"),
        ("empty", r"updates\(0\) is empty"),
    ],
)
def test_an_objective_that_cannot_work_is_refused(tmp_path, dataset, monkeypatch, case, message):
    OBJECTIVES.add("wrong")(Wrong)
    monkeypatch.setattr(Wrong, "case", case)
    with pytest.raises(ConfigError, match=message):
        make_trainer(tmp_path, dataset, objective={"name": "wrong"}, policy=REGRESSION).fit()


def test_other_processes_than_the_first_write_nothing(tmp_path, dataset, capsys):
    trainer = make_trainer(tmp_path / "run", dataset, policy=REGRESSION, steps=2, threads=1)
    trainer.rank = Rank(1, 2)
    trainer.evaluate = lambda policy: pytest.fail("it evaluated")
    trainer.fit()
    assert trainer.state.step == 2
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def one_process(tmp_path):
    """torch.distributed, of this process alone."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("name", ["behaviour_cloning", "adversarial_cloning"])
def test_a_data_parallel_wrapper_can_stand_before_an_objective(
    tmp_path, dataset, adversarial, name
):
    """Its hooks run where it is called, and see the gradients of each update."""
    options = {"objective": {"name": name}, "policy": REGRESSION, "steps": 3, "threads": 1}
    make_trainer(tmp_path / "plain", dataset, **options).fit()
    trainer = make_trainer(tmp_path / "wrapped", dataset, **options)
    assert trainer.rank == Rank(0, 1)
    trainer.objective = torch.nn.parallel.DistributedDataParallel(
        trainer.state.objective, find_unused_parameters=name != "behaviour_cloning"
    )
    trainer.fit()
    assert_same_bits(tmp_path / "plain", tmp_path / "wrapped")


def test_each_rank_and_each_update_has_noise_of_its_own():
    drawn = []
    for update, rank in ((0, 0), (1, 0), (0, 1), (1, 1)):
        seed_step(42, 7, 0, update, rank)
        drawn.append(float(torch.rand(())))
    assert len(set(drawn)) == 4
    seed_step(42, 7)
    assert float(torch.rand(())) == drawn[0]


def test_a_rank_lies_among_the_ranks():
    assert [Rank().is_main, Rank(1, 2).is_main] == [True, False]
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Rank(2, 2)


@pytest.mark.parametrize(
    ("metrics", "score"),
    [
        ({"max_reward_mean": 0.25}, 0.25),
        ({"max_reward_mean": 0.25, "score": -3.5}, -3.5),
        ({"return_mean": 7.0, "score": 7.0, "score_name": "mean return"}, 7.0),
    ],
)
def test_the_best_checkpoint_is_that_of_the_best_score(tmp_path, dataset, metrics, score):
    options = {"policy": REGRESSION, "steps": 1, "evaluate_every": 1}
    trainer = make_trainer(tmp_path, dataset, **options)
    trainer.evaluate = lambda policy: metrics
    trainer.fit()
    assert json.loads((tmp_path / "best.json").read_text())["score"] == score
    result = TrainResult.of(tmp_path, 1, (0, 1), None)
    assert result.score == score
    assert result.score_name == ("best score" if "score" in metrics else "best mean max reward")


class Adapter(BehaviourCloning):
    """A linear map between the encoder and the head, trained by an update of its own."""

    def __init__(self, policy):
        super().__init__(policy)
        self.adapter = torch.nn.Linear(6, 6)

    def parameter_groups(self):
        own = ParameterGroup(list(self.adapter.parameters()))
        return {**super().parameter_groups(), "adapter": [own]}

    def forward(self, batch, *, update="policy", step=0):
        context = self.policy.encode(batch["observation"])
        adapted = replace(context, vector=self.adapter(context.vector))
        actions = self.policy.normalizers["action"].normalize(batch["action"])
        return self.policy.head.loss(ChunkBatch(actions), adapted)


def test_gradients_pass_through_a_fixed_policy_whose_batch_threads_divide(tmp_path, dataset):
    OBJECTIVES.add("adapter")(Adapter)
    found = []
    for threads in (1, 2):
        trainer = make_trainer(
            tmp_path / str(threads),
            dataset,
            objective={"name": "adapter"},
            steps=2,
            batch_size=16,
            threads=threads,
            validate_every=0,
        )
        trainer.fit()
        found.append(trainer.state.objective.adapter.weight.detach())
    assert torch.allclose(*found, atol=1e-6)


def test_the_updates_of_a_step_are_seeded_apart(tmp_path, dataset, adversarial, monkeypatch):
    seeded = []
    monkeypatch.setattr(updates, "seed_step", lambda *given: seeded.append(given[:4]))
    options = {"objective": adversarial, "policy": REGRESSION, "steps": 1, "accumulate": 2}
    make_trainer(tmp_path, dataset, **options).fit()
    # (seed, step, batch, update): the discriminator's is the second of the parameter groups.
    assert [each[1:] for each in seeded] == [(0, 0, 1), (0, 1, 1), (0, 0, 0), (0, 1, 0)]


class Counting(BehaviourCloning):
    """Counts its losses in a buffer, as running statistics do."""

    def __init__(self, policy):
        super().__init__(policy)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, batch, *, update="policy", step=0):
        self.calls += 1
        return super().forward(batch, update=update, step=step)


def test_trying_out_threads_leaves_buffers_as_they_were(tmp_path, dataset):
    OBJECTIVES.add("counting")(Counting)
    trainer = make_trainer(tmp_path, dataset, objective={"name": "counting"}, policy=REGRESSION)
    trainer.updates.try_out(trainer.objective)
    assert float(trainer.state.objective.calls) == 0

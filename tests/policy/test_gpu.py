"""What runs on a GPU neither waits for the host nor has tensors elsewhere: tested without one.

PyTorch's device "meta" has shapes and no numbers: whatever needs to know a number fails. That
nothing of a computation lies on the processor, or comes from it, is seen operation by operation.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import features
from eyes_fixture import make_policy as make_image_policy
from training_fixture import make_trainer, write_dataset

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.policy import Policy, PolicyConfig
from dipole.policy.denoisers.cpu_unet.compiled import compile_unets
from dipole.policy.diffusion.solvers import DDIM, DDPM, Solver
from dipole.policy.robot_numbers import RobotNumbers
from dipole.policy.runtimes import cuda_graph
from dipole.policy.runtimes.cuda_graph import CudaGraphs
from dipole.policy.runtimes.export import ParityError, captured_policy
from dipole.policy.runtimes.program import SamplingProgram
from dipole.policy.training import BehaviourCloning, TrainConfig, Trainer, TrainState, state

FEATURES = Features(
    {"state": Feature((3,), normalize="identity")}, Feature((2,), kind="action", normalize="limits")
)
DENOISER = {"name": "unet1d", "down_dims": [16, 32], "n_groups": 4, "time_embed_dim": 8}
SOLVERS = [DDIM(3), DDPM(3)]


def make_policy(solver: Solver = SOLVERS[0]) -> Policy:
    policy = Policy(PolicyConfig(denoiser=DENOISER), FEATURES, WindowSpec(2, 8, 4))
    policy.solver = solver
    return policy


class ElsewhereError(RuntimeError):
    pass


class NoneOfPython(TorchFunctionMode):
    """Refuses tensors that are made of Python's numbers: each is a copy that a GPU waits for, and
    what is below this does not show it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor):
            raise ElsewhereError(f"a tensor is made of a {type(args[0]).__name__}")
        return function(*args, **(kwargs or {}))


class OnlyOn(TorchDispatchMode):
    """Refuses operations whose tensors are not all on one device, and tensors made of numbers."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.count, self.python = device, 0, NoneOfPython()

    def __enter__(self):
        self.python.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.python.__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs, out)):
            if isinstance(each, torch.Tensor) and each.device.type != self.device:
                raise ElsewhereError(f"{operation} has a tensor on {each.device}")
        self.count += 1
        return out


def test_what_a_gpu_would_not_do_is_noticed():
    x, here = torch.randn(3, device="meta"), torch.randn(3)
    with OnlyOn("meta"):
        assert (x + 1).device.type == "meta"
        with pytest.raises(ElsewhereError, match=r"_to_copy.* on cpu"):
            here.to("meta")
        with pytest.raises(ElsewhereError, match=r"ones.* on cpu"):
            torch.ones(3)
        with pytest.raises(ElsewhereError, match="made of a list"):
            torch.tensor([1.0], device="meta")
        with pytest.raises(RuntimeError, match="meta"):
            x.sum().item()


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
def test_a_captured_loop_stays_on_the_device(solver):
    program = SamplingProgram(make_policy(solver)).to("meta")
    inputs = [each.to("meta") for each in program.examples(2)]
    with OnlyOn("meta") as seen, torch.no_grad():
        chunk = program(*inputs)
    assert chunk.shape == (2, 8, 2)
    assert seen.count > 100


OBSERVING = {
    "words": (Feature((12,), kind="text"), {"name": "words"}),
    "bytes": (Feature((12,), kind="text"), {"name": "bytes"}),
    "words for attention": (Feature((12,), kind="text"), {"name": "words", "token_dim": 8}),
}


@pytest.mark.parametrize("name", OBSERVING)
def test_a_captured_loop_of_a_policy_that_reads_stays_on_the_device(name):
    feature, encoder = OBSERVING[name]
    observed = {"state": FEATURES.observation["state"], "text": feature}
    parts = {"state": {"name": "state"}, "text": encoder}
    features = Features(observed, FEATURES.action)
    config = PolicyConfig(encoder={"name": "join", "parts": parts}, denoiser=DENOISER)
    program = SamplingProgram(Policy(config, features, WindowSpec(2, 8, 4))).to("meta")
    inputs = [each.to("meta") for each in program.examples(2)]
    with OnlyOn("meta"), torch.no_grad():
        assert program(*inputs).shape == (2, 8, 2)


class _NoLoader:
    def batches(self, start):
        return iter(())

    def epoch(self, batch):
        return 0.0


def test_a_training_step_never_waits_for_the_device(tmp_path, monkeypatch):
    batch_size = 8
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    # AdamW's fused update is torch's, of real GPUs alone.
    monkeypatch.setattr(state, "make_optimizers", _plain_optimizers)
    config = TrainConfig(batch_size=batch_size, grad_clip=1.0, amp=False)
    policy = make_policy().to("meta")
    trainer = Trainer(
        TrainState.new(BehaviourCloning(policy), config), _NoLoader(), config, tmp_path
    )
    trainer.progress = _NoProgress()
    batch = policy.fake_batch(batch_size)
    trainer._step(iter([batch]))  # creates the optimiser's state
    with OnlyOn("meta"):
        trainer._step(iter([batch]))
    assert trainer.state.step == 2
    with pytest.raises(RuntimeError, match="meta"):
        trainer.finite.raise_bad()  # only a report waits


def test_a_training_step_of_a_policy_that_sees_stays_on_the_device(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    changes = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.2)
    changes |= {"cutout": 0.3, "blur": 0.5, "noise": 0.1, "shift": 2}
    policy = make_image_policy(
        features(front=(32, 32)), token_dim=8, camera_dropout=0.2, crop=24, augment=changes
    ).to("meta")
    batch = policy.fake_batch(4)
    with OnlyOn("meta") as seen:
        policy.loss(batch).backward()
    assert seen.count > 100


def _trainer(policy, config, folder):
    return Trainer(TrainState.new(BehaviourCloning(policy), config), _NoLoader(), config, folder)


def _plain_optimizers(objective, _config):
    groups = [{"params": list(objective.policy.parameters()), "ratio": 1.0}]
    return {"policy": torch.optim.SGD(groups)}


class _NoProgress:
    def advance(self, step):
        pass


class _Graph:
    """Stands in for a graph: what is captured is run again by `replay`."""

    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1


@pytest.fixture
def captured(monkeypatch):
    """CudaGraphs on the processor: `replay` computes what was captured."""

    def capture(self, batch_size):
        inputs = tuple(self._program.examples(batch_size))
        graph, output = _Graph(), torch.empty(batch_size, 8, 2)
        made.append((batch_size, graph))

        def replay():
            graph.replays += 1
            with torch.no_grad():
                output.copy_(self._program(*inputs))

        graph.replay = replay
        return cuda_graph._Captured(graph, inputs, output)

    made = []
    monkeypatch.setattr(CudaGraphs, "_capture", capture)
    return made


def test_each_batch_size_is_captured_once_and_new_inputs_are_read(captured):
    policy = make_policy().eval()
    graphs = CudaGraphs(SamplingProgram(policy), torch.device("cpu"))
    for batch_size in (2, 3, 2):
        observation, noise = policy.fake_observation(batch_size), torch.randn(batch_size, 8, 2)
        chunk = graphs([observation["state"].numpy(), noise.numpy()])
        ours = policy.predict(observation, noise=noise).numpy()
        assert np.allclose(chunk, ours, atol=1e-5)
    assert [(size, graph.replays) for size, graph in captured] == [(2, 2), (3, 1)]


def test_a_capture_is_compared_with_the_policy(captured, monkeypatch):
    policy = make_policy().eval()
    with pytest.raises(ConfigError, match="captures a GPU's work, and the policy is on cpu"):
        captured_policy(policy, 1)
    monkeypatch.setattr(Policy, "device", torch.device("cuda"))
    monkeypatch.setattr(CudaGraphs, "__init__", _on_processor)
    monkeypatch.setattr(RobotNumbers, "_on_device", lambda self, value: torch.as_tensor(value))
    monkeypatch.setattr(Policy, "fake_observation", lambda self, n: {"state": torch.rand(n, 2, 3)})
    monkeypatch.setattr(Policy, "normalize_action", lambda self, chunk, _=None: chunk)
    found = captured_policy(policy, 2)
    assert found.runtime == "cuda_graph"
    assert found.schema["parity"]["largest_difference"] < 1e-4
    assert "known" in found.supports, "the policy goes on doing what a graph cannot"
    with torch.no_grad():
        policy.head.denoiser.final[1].bias += 1
    monkeypatch.setattr(
        "dipole.policy.runtimes.export.SamplingProgram", lambda _: SamplingProgram(make_policy())
    )
    with pytest.raises(ParityError, match="cuda_graph export differs"):
        captured_policy(policy, 2)


def _on_processor(self, program, device):
    self._program, self._device, self._by_batch_size = program, torch.device("cpu"), {}


def test_a_gpu_run_compiles_its_denoiser(tmp_path):
    policy, config = make_policy().to("meta"), TrainConfig(compile=True, amp=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "make_optimizers", _plain_optimizers)
        trainer = Trainer(
            TrainState.new(BehaviourCloning(policy), config), _NoLoader(), config, tmp_path
        )
    assert policy.head.denoiser._compiled_call_impl is not None
    assert trainer.state.ema.model.head.denoiser._compiled_call_impl is None
    assert trainer.objective.policy is policy


def test_what_a_gpu_needs_of_a_resident_batch_is_copied_without_waiting(tmp_path, monkeypatch):
    """Indices of frames and the mask: torch waits for copies from memory that is not pinned."""
    dataset = write_dataset(tmp_path / "walk.zarr")
    loader = make_trainer(tmp_path / "run", dataset, batch_size=8).loader
    expected, pinned, copies = loader._source.batch(0), [], []

    def pin_memory(tensor):
        pinned.append(tensor)
        return tensor

    def to(tensor, device, non_blocking=False):
        copies.append((device.type, non_blocking, any(tensor is each for each in pinned)))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(loader._source, "_device", torch.device("cuda"))
    batch = loader._source.batch(0)
    assert copies == [("cuda", True, True)] * 3
    assert torch.equal(batch["action"], expected["action"])
    assert torch.equal(batch["action_is_pad"], expected["action_is_pad"])


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture
def no_waiting():
    """Torch refuses what waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode(before)


def gpu_trainer(folder: Path, **changes) -> Trainer:
    dataset = folder / "walk.zarr"
    if not dataset.exists():
        write_dataset(dataset)
    trainer = make_trainer(folder / "run", dataset, "cuda", **changes)
    trainer.progress = _NoProgress()
    return trainer


@GPU
@pytest.mark.parametrize("batch_size", [8, 64], ids=["by taps", "by fewer products"])
def test_a_gpu_is_not_waited_for_in_a_training_step(tmp_path, batch_size, request):
    trainer = gpu_trainer(tmp_path, batch_size=batch_size)
    batches = trainer.loader.batches(0)
    trainer._step(batches)  # brings the optimiser's state and the changes of basis there
    request.getfixturevalue("no_waiting")
    trainer._step(batches)
    assert trainer.state.step == 2


@GPU
def test_a_run_on_a_gpu_learns_what_one_on_the_processor_does(tmp_path):
    """The same batches; noise of its own, so that only the losses are alike."""
    trainer = gpu_trainer(tmp_path, steps=200, batch_size=64, deterministic=False)
    before = trainer.validation.losses(trainer.state.objective)["loss"]
    assert trainer.fit() is None
    assert trainer.validation.losses(trainer.state.objective)["loss"] < before
    again = gpu_trainer(tmp_path, steps=200, batch_size=64, deterministic=False)
    assert again.state.step == 200
    losses = [each._validation_losses(each.validation) for each in (again, trainer)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@GPU
def test_a_deterministic_run_on_a_gpu_goes_on_as_if_never_stopped(tmp_path):
    found = []
    for folder, stops in ((tmp_path / "whole", [8]), (tmp_path / "parts", [4, 8])):
        folder.mkdir()
        for steps in stops:
            trainer = gpu_trainer(folder, steps=steps, warmup_steps=20)
            assert trainer.fit() is None
        found.append(trainer.state.policy.state_dict())
    torch.use_deterministic_algorithms(False)
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


@GPU
def test_a_compiled_denoiser_on_a_gpu_has_the_same_gradients():
    policy = make_policy().cuda()
    batch = policy.fake_batch(64)
    before = gradients(policy, batch)
    compile_unets(policy)
    for name, gradient in gradients(policy, batch).items():
        assert torch.allclose(gradient, before[name], atol=1e-5), name


def gradients(policy: Policy, batch) -> dict[str, torch.Tensor]:
    policy.zero_grad()
    torch.manual_seed(1)
    policy.loss(batch).backward()
    return {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}


@GPU
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
def test_a_graph_gives_the_chunks_of_its_policy(solver):
    policy = make_policy(solver).cuda().eval()
    captured = captured_policy(policy, 4)
    observation = policy.fake_observation(4)
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    ours = policy.predict(observation, seeds[0]).cpu()
    assert torch.allclose(captured.predict(observation, seeds[1]), ours, atol=1e-3)

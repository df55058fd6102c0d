"""A small run over made-up data, for the tests of training; also used by their child processes."""

from pathlib import Path

import numpy as np
import torch

from dipole.data import EpisodeStore, EpisodeWriter, Features, Windows, WindowSpec, make_loader
from dipole.policy import Policy, PolicyConfig
from dipole.policy.checkpoint import checkpoints_of
from dipole.policy.training import TrainConfig, Trainer, TrainState, Validation
from dipole.policy.training.objective import build_objective

SMALL = {"name": "unet1d", "down_dims": [8, 16], "n_groups": 4, "time_embed_dim": 8}
SETTINGS = {
    "steps": 12,
    "batch_size": 8,
    "warmup_steps": 2,
    "learning_rate": 1e-3,
    "device": "cpu",
    "deterministic": True,
    "checkpoint_every": 4,
    "keep_checkpoints": 2,
    "validate_every": 4,
    "log_every": 2,
}


def write_dataset(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with EpisodeWriter(path, fps=10.0) as writer:
        for length in (30, 40, 25):
            state = rng.normal(size=(length, 3)).astype(np.float32).cumsum(0)
            writer.add_episode({"state": state, "action": state[:, :2]})
    return path


def make_trainer(
    run: Path,
    dataset: Path,
    device="cpu",
    *,
    streaming=False,
    workers=0,
    objective=None,
    policy=None,
    **changes,
) -> Trainer:
    """A new run, or one at its newest checkpoint."""
    config = TrainConfig.from_dict({**SETTINGS, "device": device, **changes})
    store = EpisodeStore.open(dataset)
    window = WindowSpec(n_obs_steps=2, horizon=8, n_action_steps=4)
    windows = Windows(store, window, Features.of(store), episodes=[0, 1])
    torch.manual_seed(config.seed)
    config_of_policy = {"denoiser": SMALL, **(policy or {})}
    policy = Policy(PolicyConfig.from_dict(config_of_policy), Features.of(store), window)
    policy.fit(windows.statistics())
    state = TrainState.new(build_objective(objective, policy).to(device), config)
    done = checkpoints_of(run)
    if done:
        state.load(done[-1])
    loader = make_loader(
        windows,
        batch_size=config.batch_size,
        seed=config.seed,
        device=device,
        workers=workers,
        memory_limit_bytes=0 if streaming else None,
        log=lambda _: None,
    )
    held_out = Windows(store, window, Features.of(store), episodes=[2])
    validation = Validation(held_out, 64)
    return Trainer(state, loader, config, run, {"note": "a test"}, validation)


class BrokenOffError(Exception):
    pass


def stop_at(trainer, step):
    """Break the run off after `step` steps, as a crash would."""
    original = trainer._step

    def stepping(batches):
        if trainer.state.step == step:
            raise BrokenOffError
        original(batches)

    trainer._step = stepping
    try:
        trainer.fit()
    except BrokenOffError:
        return
    raise AssertionError(f"the run ended before step {step}")

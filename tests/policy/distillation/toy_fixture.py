"""Small students and teachers over made-up numbers, for the tests of methods."""

import copy
from unittest import mock

import torch

from dipole.data import Feature, Features, WindowSpec
from dipole.policy import Policy, PolicyConfig
from dipole.policy.diffusion.analytic import GaussianMixture
from dipole.policy.diffusion.solvers import Jump
from dipole.policy.training.frozen import Frozen
from dipole.policy.training.objectives.distillation.base import Distillation

FEATURES = Features({"x": Feature((3,))}, Feature((2,), kind="action"))
WINDOW = WindowSpec(2, 4, 2)
NETWORK = {"name": "dit", "width": 16, "depth": 1, "heads": 2, "time_embed_dim": 16}


def mixture_of(*weights: float) -> GaussianMixture:
    """Chunks about -0.6 and about 0.6, so often each."""
    means = torch.tensor([-0.6, 0.6])[:, None, None].expand(2, 4, 2).contiguous()
    return GaussianMixture(means, torch.tensor([0.05, 0.05]), torch.tensor(weights))


MIXTURE = mixture_of(0.5, 0.5)


def policy_of(
    kind: type[Distillation] | None, process: str = "flow", window: WindowSpec = WINDOW, **config
) -> Policy:
    """A student of a method, or without one a teacher."""
    torch.manual_seed(0)
    values = {
        "encoder": {"name": "state"},
        "denoiser": NETWORK,
        "process": {"name": process},
        "head": {"name": "diffusion"},
        **config,
    }
    if kind is not None:
        values = kind.student(values, {})
    return Policy(PolicyConfig(**values), FEATURES, window)


def method(kind: type[Distillation], process: str = "flow", student=None, teacher=None, **options):
    """A method with an untrained student, its average, and an untrained teacher.

    student, teacher: Changes to their configurations.
    """
    frozen = Frozen(policy_of(None, process, **(teacher or student or {})), {})
    with mock.patch.object(Frozen, "of_policy", return_value=frozen):
        named = {"teacher": "teacher"} if kind.needs_teacher else {}
        made = kind(policy_of(kind, process, **(student or {})), **named, **options)
    models = {name: copy.deepcopy(each.module) for name, each in made.averages().items()}
    made.attach_averages({name: each.requires_grad_(False) for name, each in models.items()})
    return made.train()


def batch_of(objective: Distillation, rows: int = 8, mixture: GaussianMixture = MIXTURE):
    """Chunks of a mixture, beside observations that say nothing."""
    batch = objective.fake_batch(rows)
    batch["action"] = mixture.sample(rows).view(rows, 4, 2)
    batch["observation"] = {"x": torch.zeros(rows, 2, 3)}
    return batch


def taught_by(objective: Distillation, mixture: GaussianMixture) -> None:
    """The best possible teacher instead of its own."""
    objective.teacher_head.estimate_at = lambda x, level, context, *_: mixture.estimate(
        x, level.over(x)
    )


def train(objective: Distillation, steps: int, loss=None, rows: int = 64, mixture=MIXTURE) -> None:
    """With Adam, and averages of a decay of 0.95. loss: (objective, batch, step) -> Loss."""
    loss = loss or (lambda made, batch, step: made(batch, step=step))
    torch.manual_seed(1)
    objective.total_steps = steps
    optimizer = torch.optim.Adam(objective.policy.head.parameters(), 2e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        optimizer.zero_grad()
        loss(objective, batch_of(objective, rows, mixture), step).total.backward()
        optimizer.step()
        for name, each in objective.averages().items():
            kept = objective.average(name).parameters()
            for average, own in zip(kept, each.module.parameters(), strict=True):
                average.lerp_(own.detach(), 0.05)


def drawn(objective: Distillation, rows: int = 512, steps: int = 1):
    """Chunks of the student, [rows, 4, 2]."""
    policy = objective.policy.eval()
    solver = Jump(steps, gamma=type(objective).gamma)
    seen = {"x": torch.zeros(rows, 2, 3)}
    return policy.predict(seen, torch.Generator().manual_seed(0), solver=solver)

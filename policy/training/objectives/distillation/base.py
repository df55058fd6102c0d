"""What all ways of distilling a policy share: the teacher, the student, and their steps.

    chunks ─ noise ─> x at a level ─┬─ teacher: a step of its ODE ─> x at the next level
                                    └─ student: jumps ─> clean chunks, compared by the method

The student is a policy with a diffusion head over the teacher's noise process, sampled by jumps
(`dipole.policy.diffusion.solvers.Jump`). It begins with the teacher's weights (train.init), and
keeps the teacher's normalisers and held actions. Both are given the context of the student's
encoder, which stays the teacher's unless it is trained: then each is given that of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from dipole.data.core.errors import ConfigError
from dipole.policy.core.components import HEADS
from dipole.policy.diffusion.level import Level
from dipole.policy.diffusion.predictions import Estimate, noise_in
from dipole.policy.heads.base import Head
from dipole.policy.heads.diffusion import DiffusionHead
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.config import EMAConfig
from dipole.policy.training.frozen import Frozen
from dipole.policy.training.objective import Average, Objective, ParameterGroup
from dipole.policy.training.objectives.distillation.given import Given
from dipole.policy.training.objectives.distillation.steps import Estimator, ode_step
from dipole.policy.training.objectives.distillation.student import (
    V,
    not_a_diffusion_head,
    notes,
    predicts_noise,
)

TARGET = "target"  # the average of the student that makes its targets
JUMP = "jump"


class Distillation(Objective):
    """Base class of distilling methods, and of those that learn few steps without a teacher.

    extra_inputs: What the student's network is told beside the level, see `DiffusionHead`.
    gamma: Of the student's `Jump` solver.
    needs_teacher: Whether it learns from a teacher's weights; otherwise a teacher's run gives the
        task, the data and the policy's configuration alone.
    head_class: Of the student.
    keeps_guidance: Whether the student can be guided by another scale than the teacher's own.
    same_parts: Of the policies' configurations, that teacher and student have alike.

    teacher: A checkpoint, or a run's folder (its newest one).
    weights: Of the teacher: ema, or raw.
    train_encoder: Whether the student's encoder is trained too.
    target_decay: Of the moving average of the student that makes its targets; None: there is none.
    """

    not_sharded_because = "a teacher, or averages, are read and copied between its updates"
    begins_with_helpers = False  # a teacher's stages and discriminators are not the student's
    extra_inputs: ClassVar[tuple[str, ...]] = ()
    gamma: ClassVar[float] = 1.0
    needs_teacher: ClassVar[bool] = True
    head_class: ClassVar[type[Head]] = DiffusionHead
    keeps_guidance: ClassVar[bool] = False
    same_parts: ClassVar[tuple[str, ...]] = ("process", "encoder")

    def __init__(
        self,
        policy: Policy,
        teacher: str | None = None,
        weights: str = "ema",
        train_encoder: bool = False,
        target_decay: float | None = None,
    ) -> None:
        super().__init__(policy)
        self.train_encoder, self.target_decay = train_encoder, target_decay
        self._check_student(policy)
        if self.needs_teacher:
            self.teacher = Frozen.of_policy(_named(teacher, type(self)), weights)
            self._check_teacher()
            policy.normalizers.load_state_dict(self.teacher_policy.normalizers.state_dict())
            policy.held.load_state_dict(self.teacher_policy.held.state_dict())

    @classmethod
    def student(cls, policy: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """The student's configuration, by the teacher's; options: of the objective."""
        of_teacher = HEADS[policy["head"]["name"]]
        if not (isinstance(of_teacher, type) and issubclass(of_teacher, DiffusionHead)):
            raise not_a_diffusion_head(policy["head"]["name"])
        head = dict(policy["head"])
        solver = {"name": JUMP, "steps": cls.jumps(options), "gamma": cls.gamma}
        if options.get("spacing") is not None:
            solver["spacing"] = options["spacing"]  # the levels that it is trained at
        head |= {"extra_inputs": list(cls.extra_inputs), "solver": solver}
        head["prefix"] = {**(head.get("prefix") or {}), "probability": 0.0}
        made = {**policy, "head": head}
        if predicts_noise(policy):
            made["prediction"] = V
        return made if cls.keeps_guidance else {**made, "guidance": None}

    @classmethod
    def jumps(cls, options: Mapping[str, Any]) -> int:
        """In how many a student draws a chunk, unless told otherwise; options: of the objective."""
        return 1

    @classmethod
    def notes(
        cls, teacher: Mapping[str, Any], student: Mapping[str, Any], checkpoint: Path
    ) -> Iterator[str]:
        """What a person may not expect, a line each.

        teacher, student: Their policies' configurations. checkpoint: The teacher's.
        """
        yield from notes(teacher, student, checkpoint, cls.needs_teacher)

    @property
    def head(self) -> DiffusionHead:
        """The student's."""
        head = self.policy.head
        assert isinstance(head, DiffusionHead)
        return head

    @property
    def teacher_policy(self) -> Policy:
        policy = self.teacher.module
        assert isinstance(policy, Policy)
        return policy

    @property
    def teacher_head(self) -> DiffusionHead:
        head = self.teacher_policy.head
        assert isinstance(head, DiffusionHead)
        return head

    @property
    def target_head(self) -> DiffusionHead:
        """The student's moving average, without a gradient by its own weights."""
        head = self.average(TARGET)
        assert isinstance(head, DiffusionHead)
        return head

    def averages(self) -> Mapping[str, Average]:
        own = dict(super().averages())
        if self.target_decay is not None:
            own[TARGET] = Average(self.policy.head, EMAConfig(max_decay=self.target_decay))
        return own

    def parameter_groups(self) -> Mapping[str, list[ParameterGroup]]:
        trained = self.policy if self.train_encoder else self.policy.head
        return {"policy": [ParameterGroup(list(trained.parameters()))]}

    def given(self, batch: Batch) -> Given:
        """The chunks of a batch and their contexts."""
        with nullcontext() if self.train_encoder else torch.no_grad():
            parts = self.policy.contexts(batch)
            context = self.policy.encoder.compose(parts)
        chunks, of_teacher, without = self.policy.chunks(batch), context, None
        if self.needs_teacher:
            teacher = self.teacher_policy
            with torch.no_grad():
                if self.train_encoder:
                    parts = teacher.contexts(batch)
                    of_teacher = teacher.encoder.compose(parts)
                if self._teacher_is_guided:
                    without = teacher.encoder.unconditional(parts)
        return Given(chunks, context, of_teacher, without)

    @property
    def _teacher_is_guided(self) -> bool:
        teacher = self.teacher_policy
        return teacher.guidance is not None and (self.keeps_guidance or teacher.guidance_scale != 1)

    def teacher_step(
        self, x: Tensor, level: Level, after: Level, given: Given, order: int = 1
    ) -> Tensor:
        """x [B, H, A] at `after`, by the teacher's probability-flow ODE from `level`.

        level, after: Of rows, [B]. order: 1, Euler's method, or 2, Heun's.
        """
        return self.step_by(self.teacher_estimator(given), x, level, after, order)

    @torch.no_grad()
    def step_by(
        self, estimate: Estimator, x: Tensor, level: Level, after: Level, order: int = 1
    ) -> Tensor:
        """`teacher_step` by another estimate than the teacher's own."""
        return ode_step(estimate, x, level, after, order)

    def teacher_estimator(self, given: Given, scale: Tensor | None = None) -> Estimator:
        """`teacher_estimate`, clipped as the teacher's chunks are."""
        return lambda x, at: self.clipped(self.teacher_estimate(x, at, given, scale), x, at)

    def teacher_estimate(
        self, x: Tensor, level: Level, given: Given, scale: Tensor | None = None
    ) -> Estimate:
        """What the teacher says of x [B, H, A] at levels of rows, [B], guided and not clipped.

        scale: Of guidance, [B]; None: the teacher's own. Where a network is guided, the noise is
        that of its clean chunk once it is `clipped`.
        """
        head, without = self.teacher_head, given.unconditional
        weight = self.teacher_policy.guidance_scale if scale is None else scale
        if head.guides_itself:
            return head.estimate_at(x, level, given.of_teacher, scale=weight)
        found = head.estimate_at(x, level, given.of_teacher)
        if without is None:
            return found
        other = head.estimate_at(x, level, without)
        weight = weight.view(-1, 1, 1) if isinstance(weight, Tensor) else weight
        return Estimate(*(u + weight * (c - u) for c, u in zip(found, other, strict=True)))

    def clipped(self, estimate: Estimate, x: Tensor, level: Level) -> Estimate:
        """With the clean chunk within [-1, 1] where the teacher's is, and the noise that is left of
        x then."""
        if not self.teacher_head.clip_sample:
            return estimate
        clean = estimate.clean.clamp(-1, 1)
        return Estimate(clean, noise_in(x, clean, level.over(x)))

    def _check_student(self, policy: Policy) -> None:
        name = policy.config.head["name"]
        if not isinstance(policy.head, self.head_class):
            raise ConfigError(
                f"{_name(type(self))} trains a {self.head_class.__name__}, and this is {name!r}"
            )
        if policy.ends is not None:
            raise ConfigError(
                f"{_name(type(self))}: policies whose chunks have known ends (policy.known) cannot "
                "be distilled"
            )
        told = policy.head.extra_inputs if isinstance(policy.head, DiffusionHead) else ()
        lacking = set(self.extra_inputs) - set(told)
        if lacking:
            raise ConfigError(
                f"{_name(type(self))} needs policy.head.extra_inputs={list(self.extra_inputs)}: "
                "the network has to be told these"
            )

    def _check_teacher(self) -> None:
        teacher, student = self.teacher_policy, self.policy
        if not isinstance(teacher.head, DiffusionHead):
            raise not_a_diffusion_head(teacher.config.head["name"])
        # How many actions are executed is no part of what either learned, and changes in a run.
        windows = [(w.n_obs_steps, w.horizon) for w in (teacher.window, student.window)]
        same = {
            "window": windows[0] == windows[1],
            "features": teacher.features == student.features,
        }
        for what, agrees in same.items():
            if not agrees:
                raise ConfigError(
                    f"the teacher's {what} is not the student's: distil by `dipole distill "
                    "teacher=RUN`, which takes the teacher's task and policy"
                )
        for what in self.same_parts:
            one, other = getattr(teacher.config, what), getattr(student.config, what)
            if one != other:
                raise ConfigError(f"the teacher's {what} is {one}, the student's {other}")


def distilling_methods() -> Sequence[str]:
    """Names of the objectives that `dipole distill` knows."""
    from dipole.policy.core.components import OBJECTIVES

    return [name for name in OBJECTIVES.names() if _is_method(OBJECTIVES[name])]


def _is_method(component: Any) -> bool:
    return isinstance(component, type) and issubclass(component, Distillation)


def _name(kind: type[Distillation]) -> str:
    return f"objective {kind.__name__}"


def _named(teacher: str | None, kind: type[Distillation]) -> str:
    if teacher is None:
        raise ConfigError(f"{_name(kind)} needs a teacher: dipole distill teacher=RUN")
    return teacher

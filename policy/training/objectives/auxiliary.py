"""Auxiliary targets: what the image encoder learns to tell, beside what the policy needs.

    pictures ─> encoder ─┬─> context ─> head                 the policy's loss
                         └─> a picture's features ─> target heads    keypoints, joints, ...

Where demonstrations hold numbers that pictures show (the state of a simulator, joint angles, the
gripper's width), predicting them teaches the encoder sooner than the policy's own loss does. The
heads are helpers: no checkpoint's policy has them, and nothing of them is computed at run time.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import WindowSource
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.data.core.registry import nearest
from dipole.policy.core.components import OBJECTIVES
from dipole.policy.core.named import NamedModules
from dipole.policy.heads.base import Loss, MeanError
from dipole.policy.policy import Batch, Policy
from dipole.policy.training.objective import Average, Objective, ParameterGroup
from dipole.policy.training.objectives.picture_plane import PicturePlane
from dipole.policy.training.objectives.target_heads import JOINED, TargetPredictor, picked

EACH = "each"
OWN = (
    "weight",
    "cameras",
    "moves_with",
    "picture_size",
)  # of a target's table; the rest says what it is
SCHEDULES = ("cosine", "linear", "constant")
HEADS = "target_heads"


@OBJECTIVES.add("auxiliary")
class AuxiliaryTargets(Objective):
    """policy_weight * the policy's loss + decay(step) * sum of weight * mean squared error.

    windows: Of the training episodes, whose targets batches hold.
    targets: {name: table}: what it is (see `dipole.data.loading.targets`), its `weight`, by default
        1, its `cameras`, by default those below, and, for places in a camera's picture that random
        cuts of it move, `moves_with` and `picture_size`. None: all of the task's.
    cameras: Whose features a target is predicted from: joined, each by itself, or a list of names,
        joined.
    hidden: Width of a layer in the heads; None: they are linear.
    decay: How targets' weights fall to 0: cosine, linear, or constant, not at all.
    decay_share: The share of the run's steps after which they are 0.
    policy_weight: 0: the encoder is trained by the targets alone, which do not decay, and nothing
        else of the policy.

    Raises ConfigError for a policy without cameras, and for targets that cannot be.
    """

    not_sharded_because = None

    def __init__(
        self,
        policy: Policy,
        windows: WindowSource,
        targets: Mapping[str, Any] | None = None,
        cameras: str | list[str] = JOINED,
        hidden: int | None = None,
        decay: str = "cosine",
        decay_share: float = 0.5,
        policy_weight: float = 1.0,
    ) -> None:
        super().__init__(policy)
        self.policy_weight, self.decay, self.decay_share = policy_weight, decay, decay_share
        self._check(hidden)
        self.trains_policy = policy_weight > 0
        self.targets = windows.targets
        own = {name: _own(name, (targets or {}).get(name)) for name in self.targets}
        self.weights = {name: options.get("weight", 1.0) for name, options in own.items()}
        if not self.trains_policy and not any(self.weights.values()):
            raise ConfigError("objective: policy_weight and all targets' weights are 0")
        dims = policy.encoder.picture_dims
        self.target_heads = NamedModules({})
        self.planes: dict[str, PicturePlane] = {}
        for name, target in self.targets.items():
            wanted = own[name].get("cameras", cameras)
            _check_cameras(name, wanted, dims)
            self.target_heads[name] = TargetPredictor(
                target.feature, picked(wanted, dims), wanted == EACH, hidden
            )
            if plane := self._plane(name, own[name]):
                self.planes[name] = plane
        for name, statistics in windows.target_statistics().items():
            predictor = self._predictor(name)
            predictor.normalizer.fit(predictor.feature.normalize, statistics)

    @classmethod
    def wanted_targets(cls, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
        tables = options.get("targets")
        if tables is None:
            return None
        if not isinstance(tables, Mapping) or not tables:
            raise ConfigError(
                f"objective.targets is {tables!r}: tables by name are needed, such as "
                "{joints: {weight: 1}}; or null, for all of the task's"
            )
        return {name: _without_own(table) for name, table in tables.items()}

    def parameter_groups(self) -> Mapping[str, list[ParameterGroup]]:
        """Without the policy's loss, the encoder's alone."""
        trained: nn.Module = self.policy if self.trains_policy else self.policy.encoder
        modules = (trained, self.target_heads)
        return {"policy": [ParameterGroup(list(module.parameters())) for module in modules]}

    def averages(self) -> Mapping[str, Average]:
        """The heads' too: those of the averaged encoder."""
        return {**super().averages(), HEADS: Average(self.target_heads)}

    @contextmanager
    def using_policy(self, policy: nn.Module) -> Iterator[None]:
        """The averaged heads go with it."""
        own = self.target_heads
        self.target_heads = self.average(HEADS)  # type: ignore[assignment]
        try:
            with super().using_policy(policy):
                yield
        finally:
            self.target_heads = own

    def forward(self, batch: Batch, *, update: str = "policy", step: int = 0) -> Loss:
        """Parts are the policy's loss, its parts, and "target/NAME", each target's mean squared
        error, normalised; while targets have no weight they are not computed."""
        contexts = self.policy.contexts(batch)
        totals: list[Tensor] = []
        parts: dict[str, Tensor] = {}
        if self.trains_policy:
            own = self.policy.loss_given(contexts, batch)
            totals.append(self.policy_weight * own.total)
            parts = {"policy": own.total, **own.parts}
        decay = self.decay_at(step)
        if decay == 0 or not any(self.weights.values()):
            return Loss(totals[0], parts)
        errors: dict[str, MeanError] = {}
        features = self.policy.encoder.picture_features(contexts)
        missing = dict(batch.get("observation_is_missing") or {})
        missing |= self.policy.encoder.picture_absent  # these, and what camera_dropout left out
        offsets = self.policy.encoder.picture_offsets
        for name, weight in self.weights.items():
            values, plane = batch["target"][name], self.planes.get(name)
            if plane is not None:
                values = plane.seen(values, offsets)
            found = self._predictor(name).error(features, values, _counted(batch, name), missing)
            totals.append(decay * weight * found.squared)
            parts[f"target/{name}"] = found.squared
            errors |= {f"{name}/{u}" if u else name: one for u, one in found.errors.items()}
        return Loss(torch.stack(totals).sum(), parts, errors)

    def decay_at(self, step: int) -> float:
        """What targets' weights are multiplied by: a function of the step, 1 at step 0."""
        if self.decay == "constant" or not self.trains_policy:
            return 1.0
        progress = min(step / max(1.0, self.decay_share * self.total_steps), 1.0)
        if self.decay == "linear":
            return 1 - progress
        return 0.5 * (1 + math.cos(math.pi * progress))

    def fake_batch(self, batch_size: int = 2) -> dict[str, Any]:
        lead = (batch_size, self.policy.window.n_obs_steps)
        drawn = {}
        for name, target in self.targets.items():
            numbers = 2 * torch.rand((*lead, *target.feature.shape), device=self.policy.device) - 1
            drawn[name] = self._predictor(name).normalizer.unnormalize(numbers)
        return {**super().fake_batch(batch_size), "target": drawn}

    def _predictor(self, name: str) -> TargetPredictor:
        found = self.target_heads[name]
        assert isinstance(found, TargetPredictor)
        return found

    def _plane(self, name: str, own: Mapping[str, Any]) -> PicturePlane | None:
        """The picture that a target's numbers are places in, where its options say so."""
        camera, size = own.get("moves_with"), own.get("picture_size")
        if camera is None:
            if size is not None:
                raise ConfigError(
                    f"target {name!r} has a picture_size: name the camera by moves_with too"
                )
            return None
        _check_cameras(name, [camera], self.policy.encoder.picture_dims)
        height, width = self.policy.features.observation[camera].shape[:2]
        plane = PicturePlane(camera, tuple(size or (width, height)))
        plane.check(name, self.targets[name].feature, self._predictor(name).cameras)
        return plane

    def _check(self, hidden: int | None) -> None:
        if not self.policy.encoder.picture_dims:
            raise ConfigError(
                "objective=auxiliary teaches an image encoder, and the policy's encoder has no "
                "cameras: choose a task with pictures and a policy such as policy=unet_image_small"
            )
        if self.decay not in SCHEDULES:
            raise ConfigError(
                f"objective.decay is {self.decay!r}{nearest(self.decay, SCHEDULES) or ';'} choose "
                f"{', '.join(SCHEDULES)}"
            )
        if not 0 < self.decay_share <= 1:
            raise ConfigError(
                f"objective.decay_share is {self.decay_share}: a share of the steps, above 0 to 1"
            )
        if not 0 <= self.policy_weight < math.inf:
            raise ConfigError(f"objective.policy_weight is {self.policy_weight}: 0 or more")
        if hidden is not None and hidden < 1:
            raise ConfigError(f"objective.hidden is {hidden}: a width, or null for linear heads")


def _own(name: str, table: Any) -> dict[str, Any]:
    """The objective's own options of a target."""
    values = {key: value for key, value in (table or {}).items() if key in OWN}
    found = from_mapping(_options, values, f"objective.targets.{name}")
    return {key: found[key] for key in values}


def _options(
    weight: float = 1.0,
    cameras: str | list[str] = JOINED,
    moves_with: str | None = None,
    picture_size: list[float] | None = None,
) -> dict[str, Any]:
    if not 0 <= weight < math.inf:
        raise ConfigError(f"objective.targets: a weight is {weight}: it must be 0 or more")
    return {
        "weight": weight,
        "cameras": cameras,
        "moves_with": moves_with,
        "picture_size": picture_size,
    }


def _without_own(table: Any) -> Any:
    if not isinstance(table, Mapping):
        return table
    return {key: value for key, value in table.items() if key not in OWN}


def _check_cameras(name: str, wanted: str | Sequence[str], dims: Mapping[str, int]) -> None:
    words = (JOINED, EACH)
    if (isinstance(wanted, str) and wanted not in words) or not wanted:
        raise ConfigError(
            f"target {name!r}: cameras is {wanted!r}: choose {JOINED}, {EACH}, or a list of names"
        )
    for camera in [] if isinstance(wanted, str) else wanted:
        if camera not in dims:
            raise ConfigError(
                f"target {name!r}: there is no camera {camera!r}{nearest(camera, dims) or ';'} "
                f"there are {', '.join(dims)}"
            )


def _counted(batch: Batch, name: str) -> Tensor | None:
    """Which frames of a target have an error, bool [B, To]; None: all."""
    is_pad = (batch.get("target_is_pad") or {}).get(name)
    lacks = (batch.get("target_is_missing") or {}).get(name)
    if lacks is None:
        return None if is_pad is None else ~is_pad
    lacks = lacks[:, None]
    found: Tensor = ~lacks if is_pad is None else ~(is_pad | lacks)
    return found

"""The policy: encoder, head and normalisers. A function of its inputs, safe to share.

    observation ─ convert ─ normalise ─> encoder ─> Context ─> head ─ unnormalise ─ invert ─> chunk

`predict` takes and gives the robot's numbers. What a feature converts (rotations, angles: see
`dipole.data.Feature`) is converted before anything else, and inverted last; batches of training
data come converted. Images reach the encoder as they are, uint8: the network that sees them
normalises them.

No queues, no history, no clock: these live in the executor.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import Feature, Features, Statistics, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.policy import denoisers, encoders, heads  # noqa: F401  they register themselves
from dipole.policy.context import Context
from dipole.policy.core.components import ENCODERS, HEADS, build, named
from dipole.policy.core.named import NamedModules
from dipole.policy.diffusion.classifier_free import ClassifierFree, Unconditional, check_scale
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.known import Known
from dipole.policy.diffusion.noise import Generators
from dipole.policy.diffusion.solvers import Solver
from dipole.policy.heads.base import ChunkBatch, Head, Loss, SampleRequest
from dipole.policy.held import HeldActions
from dipole.policy.normalizer import Normalizer, over_pixels
from dipole.policy.observations import as_array, checked_observation, errors_naming

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class PolicyConfig:
    """Which components a policy is made of, by name, with their options: plain values.

    denoiser, process, prediction: Of heads that have one; None: the head is given none. A
        prediction without options may be its name alone.
    guidance: Of a policy that also learns to do without its observation; see `ClassifierFree`.
    name: Of the policy, in names of folders.
    """

    encoder: Mapping[str, Any] = field(default_factory=lambda: {"name": "state"})
    denoiser: Mapping[str, Any] | None = field(default_factory=lambda: {"name": "unet1d"})
    process: Mapping[str, Any] | None = None
    prediction: Mapping[str, Any] | str | None = None
    head: Mapping[str, Any] = field(default_factory=lambda: {"name": "diffusion"})
    guidance: Mapping[str, Any] | None = None
    name: str = "policy"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PolicyConfig":
        return from_mapping(cls, values, "policy")


class Policy(nn.Module):
    """Behaviour cloning of action chunks.

    features: the schema of observation and action. window: To, H, Ta. A new policy's normalisers
    are the identity until `fit` sets them from the training episodes.
    """

    runtime = "eager"  # how it computes; see dipole.policy.runtimes for others

    def __init__(self, config: PolicyConfig, features: Features, window: WindowSpec) -> None:
        super().__init__()
        self.config, self.features, self.window = config, features, window
        self.normalizers = NamedModules(
            {name: Normalizer(f.shape) for name, f in _normalised(features).items()}
        )
        self.held = HeldActions(features.action.shape)
        self.encoder: encoders.Encoder = build(
            ENCODERS, config.encoder, features=features, window=window
        )
        self.guidance: ClassifierFree | None = None
        if config.guidance is not None:
            self.guidance = _guidance(config.guidance)
            self.encoder.add_nulls(self.guidance.parts)
        self.costs: Sequence[CostTerm] = ()
        taken = inspect.signature(named(HEADS, config.head)).parameters
        names = [name for name in ("denoiser", "process", "prediction") if name in taken]
        parts = {name: getattr(config, name) for name in names}
        self.head: Head = build(
            HEADS,
            config.head,
            action=features.action,
            horizon=window.horizon,
            context=self.encoder.spec,
            **{name: part for name, part in parts.items() if part is not None},
        )

    def fit(self, statistics: Mapping[str, Statistics]) -> dict[str, list[int]]:
        """Fit the normalisers; returns the constant dimensions, by key, which pass through. Those
        of the action are held within the range that they had."""
        for name, feature in _normalised(self.features).items():
            pooled = over_pixels if feature.kind == "depth" else lambda each: each
            self._normalizer(name).fit(feature.normalize, pooled(statistics[name]))
        self.held.fit(statistics["action"], self._normalizer("action").constant)
        found = {name: self._normalizer(name).constant for name in self.normalizers}
        return {name: constant for name, constant in found.items() if constant}

    @property
    def device(self) -> torch.device:
        return self._normalizer("action").scale.device

    @property
    def solver(self) -> Solver | None:
        """How chunks are drawn, for heads that have a solver."""
        return self.head.solver

    @solver.setter
    def solver(self, solver: Solver) -> None:
        self.head.use_solver(solver)

    @property
    def evaluations_per_chunk(self) -> int:
        """How often a network is evaluated for a chunk."""
        return self.head.evaluations_per_chunk

    @property
    def guidance_scale(self) -> float:
        """Of classifier-free guidance: 1 is the policy as it is, 0 without its observation."""
        return 1.0 if self.guidance is None else self.guidance.scale

    @guidance_scale.setter
    def guidance_scale(self, scale: float) -> None:
        self.guidance = self._guidance_of(scale)

    def _guidance_of(self, scale: float) -> ClassifierFree | None:
        """The policy's guidance with another scale."""
        check_scale(scale)
        if self.guidance is None and scale != 1:
            raise ConfigError(
                f"guidance_scale={scale}: the policy was not trained to do without its "
                "observation; train with policy/guidance=classifier_free"
            )
        return None if self.guidance is None else self.guidance.with_scale(scale)

    @property
    def supports(self) -> frozenset[str]:
        """What may be asked of `predict`; see `SampleRequest`."""
        return self.head.supports

    @property
    def max_prefix(self) -> int:
        """Actions of the longest prefix that chunks were trained to go on from; 0: none."""
        return self.head.max_prefix

    @property
    def optional(self) -> Sequence[str]:
        """What may be missing from an observation."""
        return tuple(self.encoder.optional)

    def forward(self, batch: Batch) -> Loss:
        """The training loss. batch: see `dipole.data.WindowSource.gather`, as tensors.

        What a mixture's dataset lacks is 0 for the network, and numbers of actions without loss.
        """
        actions = self._normalizer("action").normalize(batch["action"])
        absent = batch.get("action_is_missing")
        if absent is not None:
            actions = actions.masked_fill(absent[:, None], 0)
        contexts = self._contexts(batch["observation"], batch.get("observation_is_missing"))
        context = self.encoder.compose(contexts)
        if self.training and self.guidance is not None and self.guidance.dropout:
            keep = torch.rand(context.rows, device=context.device) >= self.guidance.dropout
            context = context.where(keep, self.encoder.unconditional(contexts))
        chunks = ChunkBatch(actions, batch.get("action_is_pad"), self._counted(batch))
        return self.head.loss(chunks, context)

    def loss(self, batch: Batch) -> Tensor:
        """The total of the training loss, a scalar; see `forward`."""
        loss: Loss = self(batch)
        return loss.total

    def _counted(self, batch: Batch) -> Tensor | None:
        """Which numbers of the chunks have a loss, bool [B, H, A]; None: all."""
        absent = batch.get("action_is_missing")  # [B, A]
        counts_padding = getattr(self.head, "counts_padding", True)
        if absent is None and counts_padding:
            return None
        counted = torch.ones(batch["action"].shape, dtype=torch.bool, device=self.device)
        if absent is not None:
            counted &= ~absent[:, None]
        if not counts_padding:
            counted &= ~batch["action_is_pad"][..., None]
        return counted

    def encode(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """The context of an observation as a batch has it, converted, on the policy's device.

        missing: of some observations, which rows do not have them, bool [B].
        """
        return self.encoder.compose(self._contexts(observation, missing))

    def _contexts(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> dict[str, Context]:
        """The context of each of the encoder's parts."""
        present = [name for name in self.features.observation if name in observation]
        normalised = {
            name: self._normalizer(name).normalize(value) if name in self.normalizers else value
            for name, value in ((name, observation[name]) for name in present)
        }
        absent = {} if missing is None else dict(missing)
        for name in [name for name in absent if name in self.normalizers]:
            rows = absent.pop(name).view(-1, *[1] * (normalised[name].ndim - 1))
            normalised[name] = normalised[name].masked_fill(rows, 0)
        found: dict[str, Context] = self.encoder.contexts(normalised, absent)
        return found

    def normalize_action(self, chunk: Any) -> Tensor:
        """A chunk [B, H, A] in the robot's numbers, converted and normalised."""
        return self._normalizer("action").normalize(self._converted(self.features.action, chunk))

    def unnormalize_action(self, chunk: Tensor) -> Tensor:
        """A normalised chunk [B, H, A] in the units of training, still converted; see
        `HeldActions`."""
        held: Tensor = self.held(self._normalizer("action").unnormalize(chunk))
        return held

    def _converted(self, feature: Feature, values: Any) -> Tensor:
        """The robot's numbers as the network sees them, on the policy's device."""
        if not feature.convert:
            return self._on_device(values)
        return self._on_device(feature.apply(as_array(values)))

    def _inverted(self, feature: Feature, values: Tensor) -> Tensor:
        """What the network gives, in the robot's numbers, on the policy's device."""
        if not feature.convert:
            return values
        return self._on_device(feature.invert(as_array(values)))

    def predict(
        self,
        observation: Mapping[str, Any],
        generator: Generators = None,
        *,
        noise: Tensor | None = None,
        known: Known | None = None,
        init: tuple[Any, float] | None = None,
        solver: Solver | None = None,
        guidance_scale: float | None = None,
        costs: Sequence[CostTerm] | None = None,
    ) -> Tensor:
        """An action chunk [B, H, A], in the robot's numbers, for each row of the observation.

        observation: {name: [B, To, *stored_shape]}, tensors or arrays of the robot's numbers.
        generator:
        one, or a list of B so that each row's noise is its own. noise: [B, H, A], normalised,
        instead of drawing it. known, init: see the head; chunks in the robot's numbers.
        guidance_scale, costs: instead of the policy's own, see `ClassifierFree` and `CostTerm`;
        costs are of chunks as `unnormalize_action` gives them.

        Action k of the chunk belongs to the time of observation k: those to execute are To - 1 to
        To - 2 + Ta. Raises ConfigError for a key that is missing or of another shape.
        """
        # Guidance through the network differentiates, which inference_mode forgets how to do.
        differentiates = known is not None and known.needs_gradients
        with torch.inference_mode(not differentiates), torch.no_grad():
            return self._predict(
                observation, generator, noise, known, init, solver, guidance_scale, costs
            )

    def _predict(
        self,
        observation: Mapping[str, Any],
        generator: Generators,
        noise: Tensor | None,
        known: Known | None,
        init: tuple[Any, float] | None,
        solver: Solver | None,
        guidance_scale: float | None,
        costs: Sequence[CostTerm] | None,
    ) -> Tensor:
        checked = self._check(observation)
        if known is not None:
            known = self._normalize_known(known) if torch.as_tensor(known.mask).any() else None
        if init is not None:
            init = (self.normalize_action(init[0]), init[1])
        context, guidance = self._conditioning(checked, guidance_scale)
        terms = self._normalised_costs(self.costs if costs is None else costs)
        request = SampleRequest(generator, noise, known, init, solver, guidance, terms or None)
        self._refuse_unsupported(request)
        drawn = self.head.sample(context, request)
        return self._inverted(self.features.action, self.unnormalize_action(drawn))

    def _conditioning(
        self, observation: Mapping[str, Tensor], scale: float | None
    ) -> tuple[Context, Unconditional | None]:
        """The context to draw by, and what it is guided by: nothing at scale 1 and 0."""
        guidance = self.guidance if scale is None else self._guidance_of(scale)
        if guidance is None or guidance.scale == 1:
            return self.encode(observation), None
        contexts = self._contexts(observation)
        unconditional = self.encoder.unconditional(contexts)
        if guidance.scale == 0:
            return unconditional, None
        wanted = Unconditional(unconditional, guidance.scale, guidance.passes)
        return self.encoder.compose(contexts), wanted

    def build_in_guidance(self) -> None:
        """Make the guidance at its scale a part of the head's network, which cannot be undone: for
        exports. Contexts are then those of `guided_context`. Raises ConfigError for costs, whose
        gradients no export computes."""
        if any(term.scale for term in self.costs):
            raise ConfigError("costs need gradients, which exports lack: use runtime=eager")
        if self.guidance_scale not in (0, 1):
            self.head.use_guidance(self.guidance_scale)

    def guided_context(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """The context of a policy with built-in guidance: of [B] rows at scale 0 and 1, otherwise
        of [2 B], conditional ones first."""
        contexts = self._contexts(observation, missing)
        if self.guidance_scale == 1:
            return self.encoder.compose(contexts)
        unconditional = self.encoder.unconditional(contexts)
        if self.guidance_scale == 0:
            return unconditional
        return Context.stack([self.encoder.compose(contexts), unconditional])

    def _normalised_costs(self, costs: Sequence[CostTerm]) -> list[CostTerm]:
        """Costs of the robot's chunks as costs of normalised ones."""
        return [term.of(self._normalizer("action").unnormalize) for term in costs if term.scale]

    def _refuse_unsupported(self, request: SampleRequest) -> None:
        for name in request.asked():
            if name not in self.head.supports:
                can = ", ".join(sorted(self.head.supports)) or "nothing of that kind"
                raise ConfigError(
                    f"the policy's head {self.config.head['name']!r} does not support {name!r}: "
                    f"it supports {can}"
                )

    def _normalize_known(self, known: Known) -> Known:
        """Parts of a chunk that are known, converted and normalised; what is not known may be
        anything, NaN included."""
        action = self.features.action
        given, mask = as_array(known.values), as_array(known.mask)
        converted = action.conversions.apply_where(given, mask > 0)
        values = self._normalizer("action").normalize(self._on_device(converted))
        weights = self._on_device(action.conversions.spread(mask)).to(values.dtype)
        return replace(known, values=values, mask=weights)

    def saliency(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """What the policy looks at, by camera: see `encoders.cameras.saliency`. Empty for a policy
        without cameras. observation: of one row, {name: [To, *shape]}."""
        found: dict[str, Any] = self.encoder.saliency(
            self._check({name: value[None] for name, value in observation.items()})
        )
        return found

    def fake_observation(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random observation, each number within what its normaliser takes to [-1, 1]: to try a
        policy without data. As `predict` takes it, in the robot's numbers."""
        drawn = self._fake_observation(batch_size)
        features = self.features.observation
        return {name: self._inverted(features[name], value) for name, value in drawn.items()}

    def _fake_observation(self, batch_size: int) -> dict[str, Tensor]:
        return {
            name: self._fake((batch_size, self.window.n_obs_steps), name, feature)
            for name, feature in self.features.observation.items()
        }

    def fake_batch(self, batch_size: int = 2) -> dict[str, Any]:
        """A random training batch, converted as those of a dataset; see `fake_observation`."""
        lead = (batch_size, self.window.horizon)
        return {
            "observation": self._fake_observation(batch_size),
            "action": self._fake(lead, "action", self.features.action),
            "action_is_pad": torch.zeros(lead, dtype=torch.bool, device=self.device),
        }

    def _fake(self, lead: tuple[int, ...], name: str, feature: Feature) -> Tensor:
        shape = (*lead, *feature.shape)
        if feature.kind == "image":
            return torch.randint(256, shape, dtype=torch.uint8, device=self.device)
        if feature.kind == "text":  # small letters
            return torch.randint(97, 123, shape, dtype=torch.uint8, device=self.device)
        drawn = 2 * torch.rand(shape, device=self.device) - 1
        return self._normalizer(name).unnormalize(drawn)

    def _normalizer(self, name: str) -> Normalizer:
        normalizer = self.normalizers[name]
        assert isinstance(normalizer, Normalizer)
        return normalizer

    def _on_device(self, value: Any) -> Tensor:
        return torch.as_tensor(value, device=self.device)

    def _check(self, observation: Mapping[str, Any]) -> dict[str, Tensor]:
        """The observation as the encoder needs it: shapes and dtypes checked, converted."""
        found = checked_observation(observation, self.features, self.window, self.optional)
        checked = {}
        for name, value in found.items():
            with errors_naming(name):
                checked[name] = self._converted(self.features.observation[name], value)
        return checked


def _guidance(config: Mapping[str, Any]) -> ClassifierFree:
    return from_mapping(ClassifierFree, config, "policy.guidance")


def _normalised(features: Features) -> dict[str, Feature]:
    """All but images and text."""
    return {name: f for name, f in features.named().items() if f.is_numeric}

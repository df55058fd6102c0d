"""The policy: encoder, head and normalisers. A function of its inputs, safe to share.

    observation ─ convert ─ represent ─ normalise ─> encoder ─> Context ─> head
          head ─ unnormalise ─ decode ─ invert ─> chunk

`predict` takes and gives the robot's numbers. What a feature converts (rotations, angles: see
`dipole.data.Feature`) is converted before anything else, and inverted last; what is relative to an
observed pose (see `Representations`) is made so after that, and made absolute before. Batches of
training data come converted and represented. Images reach the encoder as they are, uint8: the
network that sees them normalises them.

No queues, no history, no clock: these live in the executor.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import Features, Statistics, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.policy import denoisers, encoders  # noqa: F401  they register themselves
from dipole.policy.config import PolicyConfig
from dipole.policy.context import Context
from dipole.policy.core.components import ENCODERS, HEADS, build
from dipole.policy.diffusion.classifier_free import ClassifierFree, Unconditional, check_scale
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.guidance import GIVEN
from dipole.policy.diffusion.known import KnownChunk
from dipole.policy.diffusion.known_ends import known_ends
from dipole.policy.diffusion.noise import Generators
from dipole.policy.diffusion.solvers import Solver, check_solver
from dipole.policy.fake_data import FakeData
from dipole.policy.heads.base import ChunkBatch, Head, Loss, SampleRequest
from dipole.policy.held import HeldActions
from dipole.policy.normalizers import Normalizers
from dipole.policy.observations import (
    checked_observation,
    n_rows,
    refuse_shape,
)
from dipole.policy.robot_numbers import RobotNumbers

__all__ = ["Batch", "Policy", "PolicyConfig"]

Batch = Mapping[str, Any]


class Policy(nn.Module):
    """Behaviour cloning of action chunks.

    features: the schema of observation and action. window: To, H, Ta. A new policy's normalisers
    are the identity until `fit` sets them from the training episodes.
    """

    runtime = "eager"  # how it computes; see dipole.policy.runtimes for others

    def __init__(self, config: PolicyConfig, features: Features, window: WindowSpec) -> None:
        super().__init__()
        self.config, self.features, self.window = config, features, window
        self.normalizers = Normalizers(features)
        self._numbers = RobotNumbers(features, self.normalizers)
        self.held = HeldActions(features.action.shape)
        self.encoder: encoders.Encoder = build(
            ENCODERS, config.encoder, features=features, window=window
        )
        self.guidance: ClassifierFree | None = None
        if config.guidance is not None:
            self.guidance = from_mapping(ClassifierFree, config.guidance, "policy.guidance")
            self.encoder.add_nulls(self.guidance.parts)
        self.costs: Sequence[CostTerm] = ()
        self.head: Head = build(
            HEADS,
            config.head,
            action=features.action,
            horizon=window.horizon,
            context=self.encoder.spec,
            **config.head_parts(),
        )
        if self.guidance is not None:
            self.guidance.check_head(config.head["name"], self.head.supports)
        self.ends = known_ends(
            config.known, features, window, config.head["name"], self.head.supports
        )

    def fit(self, statistics: Mapping[str, Statistics]) -> dict[str, list[int]]:
        """Fit the normalisers; returns the constant dimensions, by key, which pass through. Those
        of the action are held within the range that they had."""
        self.normalizers.fit(statistics)
        self.held.fit(statistics["action"], self.normalizers["action"].constant)
        return self.normalizers.constant()

    @property
    def device(self) -> torch.device:
        return self.normalizers.device

    @property
    def solver(self) -> Solver | None:
        """How chunks are drawn, for heads that have a solver."""
        return self.head.solver

    @solver.setter
    def solver(self, solver: Solver) -> None:
        check_solver(solver)
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
        """What may be asked of `predict`; see `SampleRequest`. Where chunks have known ends, no
        others may be known."""
        known = {GIVEN} if self.ends is None else {GIVEN, "known", "prefix"}
        return self.head.supports - known

    @property
    def max_prefix(self) -> int:
        """Actions of the longest prefix that chunks were trained to go on from; 0: none, as where
        their ends are known."""
        return self.head.max_prefix if self.ends is None else 0

    @property
    def optional(self) -> Sequence[str]:
        """What may be missing from an observation."""
        return tuple(self.encoder.optional)

    def forward(self, batch: Batch) -> Loss:
        """The training loss. batch: see `dipole.data.WindowSource.gather`, as tensors.

        What a mixture's dataset lacks is 0 for the network, and numbers of actions without loss.
        """
        return self.loss_given(self.contexts(batch), batch)

    def contexts(self, batch: Batch) -> dict[str, Context]:
        """The context of each of the encoder's parts, for `loss_given`, and for whatever else an
        objective asks of them."""
        return self._contexts(batch["observation"], batch.get("observation_is_missing"))

    def loss_given(self, contexts: Mapping[str, Context], batch: Batch) -> Loss:
        """`forward` after the encoder."""
        context = self.encoder.compose(contexts)
        if self.training and self.guidance is not None and self.guidance.dropout:
            keep = torch.rand(context.rows, device=context.device) >= self.guidance.dropout
            context = context.where(keep, self.encoder.unconditional(contexts))
        return self.head.loss(self.chunks(batch), context)

    def chunks(self, batch: Batch) -> ChunkBatch:
        """The chunks of a batch as the head learns them, normalised."""
        actions = self.normalizers["action"].normalize(batch["action"])
        absent = batch.get("action_is_missing")
        if absent is not None:
            actions = actions.masked_fill(absent[:, None], 0)
        given = None
        if self.ends is not None and self.ends.is_trained:
            given = self.ends.frames(self.window).to(self.device).expand(actions.shape[:2])
        return ChunkBatch(actions, batch.get("action_is_pad"), self._counted(batch), given)

    def loss(self, batch: Batch) -> Tensor:
        """The total of the training loss, a scalar; see `forward`."""
        loss: Loss = self(batch)
        return loss.total

    def _counted(self, batch: Batch) -> Tensor | None:
        """Which numbers of the chunks have a loss, bool [B, H, A]; None: all."""
        absent = batch.get("action_is_missing")  # [B, A]
        if absent is None and self.head.counts_padding:
            return None
        counted = torch.ones(batch["action"].shape, dtype=torch.bool, device=self.device)
        if absent is not None:
            counted &= ~absent[:, None]
        if not self.head.counts_padding:
            counted &= ~batch["action_is_pad"][..., None]
        return counted

    def encode(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """The context of an observation as a batch has it, converted and represented, on the
        policy's device.

        missing: of some observations, which rows do not have them, bool [B].
        """
        return self.encoder.compose(self._contexts(observation, missing))

    def _contexts(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> dict[str, Context]:
        """The context of each of the encoder's parts."""
        named = self.features.observation
        present = {name: observation[name] for name in named if name in observation}
        normalised, absent = self.normalizers.normalize(present, missing or {})
        found: dict[str, Context] = self.encoder.contexts(normalised, absent)
        return found

    @property
    def numbers(self) -> RobotNumbers:
        """Between the robot's numbers and normalised ones."""
        if self._numbers.features is not self.features:  # those of one dataset of a mixture
            self._numbers = RobotNumbers(self.features, self.normalizers)
        return self._numbers

    def seen(self, observation: Mapping[str, Any]) -> dict[str, Tensor]:
        """An observation as `predict` takes it, checked and as `encode` takes it."""
        return self.numbers.representations.observation(self._check(observation))

    def normalize_action(self, chunk: Any, observation: Mapping[str, Any] | None = None) -> Tensor:
        """A chunk [B, H, A] in the robot's numbers, converted, represented and normalised.

        observation: As `predict` takes it; of a policy whose actions are relative to it.
        """
        return self.numbers.normalized(chunk, observation and self._check(observation))

    def unnormalize_action(self, chunk: Tensor) -> Tensor:
        """A normalised chunk [B, H, A] in the units of training, still converted and represented;
        see `HeldActions`."""
        held: Tensor = self.held(self.normalizers["action"].unnormalize(chunk))
        return held

    def predict(
        self,
        observation: Mapping[str, Any],
        generator: Generators = None,
        *,
        noise: Tensor | None = None,
        known: KnownChunk | None = None,
        init: tuple[Any, float] | None = None,
        solver: Solver | None = None,
        guidance_scale: float | None = None,
        costs: Sequence[CostTerm] | None = None,
    ) -> Tensor:
        """An action chunk [B, H, A], in the robot's numbers, for each row of the observation.

        observation: {name: [B, To, *stored_shape]}, tensors or arrays of the robot's numbers.
        generator: one, or a list of B so that each row's noise is its own.
        noise: [B, H, A], normalised, instead of drawing it.
        known, init: see the head; chunks in the robot's numbers.
        guidance_scale, costs: instead of the policy's own, see `ClassifierFree` and `CostTerm`;
            costs are of chunks that are converted and absolute.

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
        known: KnownChunk | None,
        init: tuple[Any, float] | None,
        solver: Solver | None,
        guidance_scale: float | None,
        costs: Sequence[CostTerm] | None,
    ) -> Tensor:
        checked = self._check(observation)
        rows, frames = n_rows(checked), self.window.horizon
        action = self.features.action
        refuse_shape("noise", noise, (rows, frames, *action.shape))
        if init is not None:
            refuse_shape("init", init[0], (rows, frames, *action.stored_shape))
        check_solver(solver)
        known = self._all_known(observation, known)
        if known is not None:
            is_known = bool(torch.as_tensor(known.mask).any())
            known = self.numbers.normalized_known(known, checked) if is_known else None
        if init is not None:
            init = (self.numbers.normalized(init[0], checked), init[1])
        seen = self.numbers.representations.observation(checked)
        context, guidance = self._conditioning(seen, guidance_scale)
        terms = self.numbers.normalized_costs(self.costs if costs is None else costs, checked)
        request = SampleRequest(generator, noise, known, init, solver, guidance, terms or None)
        self._refuse_unsupported(request)
        drawn = self.head.sample(context, request)
        return self.numbers.robots_chunk(self.unnormalize_action(drawn), checked)

    def _conditioning(
        self, observation: Mapping[str, Tensor], scale: float | None
    ) -> tuple[Context, Unconditional | None]:
        """The context to draw by, and what it is guided by: nothing at scale 1, and nothing at 0
        unless the network is told the scale."""
        guidance = self.guidance if scale is None else self._guidance_of(scale)
        if guidance is None or guidance.scale == 1:
            return self.encode(observation), None
        contexts = self._contexts(observation)
        unconditional = self.encoder.unconditional(contexts)
        if guidance.scale == 0 and not self.head.guides_itself:
            return unconditional, None
        wanted = Unconditional(unconditional, guidance.scale, guidance.passes)
        return self.encoder.compose(contexts), wanted

    def build_in_guidance(self) -> None:
        """Make the guidance at its scale a part of the head's network, which cannot be undone: for
        exports. Contexts are then those of `guided_context`. Raises ConfigError for costs, whose
        gradients no export computes, and for chunks with known ends."""
        if self.ends is not None:
            raise ConfigError(
                "the policy's chunks begin and end with what it observes (policy.known), which "
                "exports cannot: use runtime=eager"
            )
        if any(term.scale for term in self.costs):
            raise ConfigError("costs need gradients, which exports lack: use runtime=eager")
        if self.guidance_scale not in (0, 1) or self.head.guides_itself:
            self.head.use_guidance(self.guidance_scale)

    def guided_context(
        self, observation: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None
    ) -> Context:
        """The context of a policy with built-in guidance: of [B] rows at scale 0 and 1, and for
        a head that guides itself; otherwise of [2 B], conditional ones first."""
        contexts = self._contexts(observation, missing)
        if self.guidance_scale == 1 or self.head.guides_itself:
            return self.encoder.compose(contexts)
        unconditional = self.encoder.unconditional(contexts)
        if self.guidance_scale == 0:
            return unconditional
        return Context.stack([self.encoder.compose(contexts), unconditional])

    def _refuse_unsupported(self, request: SampleRequest) -> None:
        for name in request.asked():
            if name not in self.head.supports:
                can = ", ".join(sorted(self.head.supports)) or "nothing of that kind"
                raise ConfigError(
                    f"the policy's head {self.config.head['name']!r} does not support {name!r}: "
                    f"it supports {can}"
                )

    def _all_known(
        self, observation: Mapping[str, Any], known: KnownChunk | None
    ) -> KnownChunk | None:
        """What is known of the chunk: what was given, or the ends that the policy knows itself."""
        if self.ends is None:
            if known is not None and known.guidance.method == GIVEN:
                raise ConfigError(
                    "guidance 'given' is of policies that were trained with known ends: train with "
                    "policy.known, or choose replace, identity or jacobian"
                )
            return known
        if known is not None:
            raise ConfigError(
                "the policy's chunks begin and end with what it observes (policy.known), and no "
                "other part of them may be known"
            )
        return self.ends.chunk(observation, self.window)

    def saliency(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """What the policy looks at, by camera: see `encoders.cameras.saliency`. Empty for a policy
        without cameras. observation: of one row, {name: [To, *shape]}."""
        seen = self.seen({name: value[None] for name, value in observation.items()})
        normalised, _ = self.normalizers.normalize(seen, {})
        found: dict[str, Any] = self.encoder.saliency(normalised)
        return found

    def fake_observation(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random observation, each number within what its normaliser takes to [-1, 1]: to try a
        policy without data. As `predict` takes it, in the robot's numbers."""
        return self.numbers.robots_observation(self._fake_data.observation(batch_size))

    def fake_batch(self, batch_size: int = 2) -> dict[str, Any]:
        """A random training batch, converted as those of a dataset; see `FakeData`."""
        return self._fake_data.batch(batch_size)

    @property
    def _fake_data(self) -> FakeData:
        return FakeData(self.features, self.window, self.normalizers)

    def _check(self, observation: Mapping[str, Any]) -> dict[str, Tensor]:
        """The observation, its shapes and dtypes checked, converted and still absolute."""
        found = checked_observation(observation, self.features, self.window, self.optional)
        return self.numbers.observation(found)

"""The policy: encoder, head and normalisers. A function of its inputs, safe to share.

    observation ─ normalise ─> encoder ─> Context ─> head ─ unnormalise ─> action chunk [B, H, A]

Images reach the encoder as they are, uint8: the network that sees them normalises them.

No queues, no history, no clock: these live in the executor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dipole.data import Feature, Features, Statistics, WindowSpec
from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest
from dipole.policy import denoisers, encoders, heads  # noqa: F401  they register themselves
from dipole.policy.components import ENCODERS, HEADS, build
from dipole.policy.noise import Generators
from dipole.policy.normalizer import Normalizer
from dipole.policy.solvers import Known, SolverConfig

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class PolicyConfig:
    """Which components a policy is made of, by name, with their options: plain values."""

    encoder: Mapping[str, Any] = field(default_factory=lambda: {"name": "state"})
    denoiser: Mapping[str, Any] | None = field(default_factory=lambda: {"name": "unet1d"})
    head: Mapping[str, Any] = field(default_factory=lambda: {"name": "diffusion"})
    name: str = "policy"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PolicyConfig":
        known = list(cls.__dataclass_fields__)
        for key in values:
            if key not in known:
                raise ConfigError(
                    f"a policy has no entry {key!r}{nearest(key, known)} Known: {', '.join(known)}"
                )
        return cls(**values)


class Policy(nn.Module):
    """Behaviour cloning of action chunks.

    features: the schema of observation and action. window: To, H, Ta. A new policy's normalisers
    are the identity until `fit` sets them from the training episodes.
    """

    def __init__(self, config: PolicyConfig, features: Features, window: WindowSpec) -> None:
        super().__init__()
        self.config, self.features, self.window = config, features, window
        self.normalizers = nn.ModuleDict(
            {name: Normalizer(f.shape) for name, f in _normalised(features).items()}
        )
        self.encoder = build(ENCODERS, config.encoder, features=features, window=window)
        given: dict[str, Any] = {} if config.denoiser is None else {"denoiser": config.denoiser}
        if getattr(self.encoder, "token_dim", None) is not None:
            given["token_dim"] = self.encoder.token_dim
        self.head = build(
            HEADS,
            config.head,
            action=features.action,
            horizon=window.horizon,
            context_dim=self.encoder.context_dim,
            **given,
        )

    def fit(self, statistics: Mapping[str, Statistics]) -> dict[str, list[int]]:
        """Fit the normalisers; returns the constant dimensions, by key, which pass through."""
        for name, feature in _normalised(self.features).items():
            self._normalizer(name).fit(feature.normalize, statistics[name])
        found = {name: self._normalizer(name).constant for name in self.normalizers}
        return {name: constant for name, constant in found.items() if constant}

    @property
    def device(self) -> torch.device:
        return self._normalizer("action").scale.device

    @property
    def solver(self) -> SolverConfig | None:
        """How chunks are drawn, for heads that have a solver."""
        return getattr(self.head, "solver", None)

    @property
    def inpaints(self) -> bool:
        """Whether `predict` takes parts of a chunk that are known."""
        return bool(getattr(self.head, "inpaints", False))

    def loss(self, batch: Batch) -> Tensor:
        """The training loss, a scalar. batch: see `dipole.data.Windows.gather`, as tensors."""
        actions = self._normalizer("action").normalize(batch["action"])
        loss: Tensor = self.head.loss(actions, self.encode(batch["observation"]))
        return loss

    def encode(self, observation: Mapping[str, Tensor]) -> Any:
        """The Context of an observation in the robot's units, on the policy's device."""
        present = [name for name in self.features.observation if name in observation]
        normalised = {
            name: self._normalizer(name).normalize(value) if name in self.normalizers else value
            for name, value in ((name, observation[name]) for name in present)
        }
        return self.encoder(normalised)

    def normalize_action(self, chunk: Tensor) -> Tensor:
        """A chunk [B, H, A] in the robot's units, normalised."""
        return self._normalizer("action").normalize(chunk.to(self.device))

    def unnormalize_action(self, chunk: Tensor) -> Tensor:
        """A normalised chunk [B, H, A] in the robot's units."""
        return self._normalizer("action").unnormalize(chunk)

    def predict(
        self,
        observation: Mapping[str, Any],
        generator: Generators = None,
        *,
        noise: Tensor | None = None,
        known: Known | None = None,
        init: tuple[Any, float] | None = None,
        solver: SolverConfig | None = None,
    ) -> Tensor:
        """An action chunk [B, H, A], in the robot's units, for each row of the observation.

        observation: {name: [B, To, *shape]}, tensors or arrays in the robot's units. generator:
        one, or a list of B so that each row's noise is its own. noise: [B, H, A], normalised,
        instead of drawing it. known, init: see the head; chunks in the robot's units.

        Action k of the chunk belongs to the time of observation k: those to execute are To - 1 to
        To - 2 + Ta. Raises ConfigError for a key that is missing or of another shape.
        """
        # Guidance through the network differentiates, which inference_mode forgets how to do.
        differentiates = known is not None and known.needs_gradients
        with torch.inference_mode(not differentiates), torch.no_grad():
            return self._predict(observation, generator, noise, known, init, solver)

    def _predict(
        self,
        observation: Mapping[str, Any],
        generator: Generators,
        noise: Tensor | None,
        known: Known | None,
        init: tuple[Any, float] | None,
        solver: SolverConfig | None,
    ) -> Tensor:
        checked = self._check(observation)
        action = self._normalizer("action")
        options: dict[str, Any] = {"noise": noise, "solver": solver}
        if known is not None:
            values, mask = self._on_device(known.values), self._on_device(known.mask)
            options["known"] = replace(
                known, values=action.normalize(values), mask=mask.to(action.scale.dtype)
            )
        if init is not None:
            options["init"] = (action.normalize(self._on_device(init[0])), init[1])
        given = {name: option for name, option in options.items() if option is not None}
        return self.unnormalize_action(self.head.sample(self.encode(checked), generator, **given))

    def looks(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """What the policy looks at, by camera: see `dipole.policy.encoders.looks`. Nothing for
        policies without cameras. observation: of one row, {name: [To, *shape]}."""
        from dipole.policy.encoders.looks import looks

        if not isinstance(self.encoder, encoders.ImageEncoder):
            return {}
        return looks(self.encoder, self._check({n: v[None] for n, v in observation.items()}))

    def fake_observation(self, batch_size: int = 2) -> dict[str, Tensor]:
        """A random observation, each number within what its normaliser takes to [-1, 1]: to try a
        policy without data."""
        return {
            name: self._fake((batch_size, self.window.n_obs_steps), name, feature)
            for name, feature in self.features.observation.items()
        }

    def fake_batch(self, batch_size: int = 2) -> dict[str, Any]:
        """A random training batch; see `fake_observation`."""
        lead = (batch_size, self.window.horizon)
        return {
            "observation": self.fake_observation(batch_size),
            "action": self._fake(lead, "action", self.features.action),
            "action_is_pad": torch.zeros(lead, dtype=torch.bool, device=self.device),
        }

    def _fake(self, lead: tuple[int, ...], name: str, feature: Feature) -> Tensor:
        shape = (*lead, *feature.shape)
        if feature.kind == "image":
            return torch.randint(256, shape, dtype=torch.uint8, device=self.device)
        drawn = 2 * torch.rand(shape, device=self.device) - 1
        return self._normalizer(name).unnormalize(drawn)

    def _normalizer(self, name: str) -> Normalizer:
        normalizer = self.normalizers[name]
        assert isinstance(normalizer, Normalizer)
        return normalizer

    def _on_device(self, value: Any) -> Tensor:
        return torch.as_tensor(value, device=self.device)

    def _check(self, observation: Mapping[str, Any]) -> dict[str, Tensor]:
        checked = {}
        for name, feature in self.features.observation.items():
            if name not in observation:
                if name in getattr(self.encoder, "optional", ()):
                    continue
                raise ConfigError(
                    f"the observation has no {name!r}{nearest(name, observation) or ';'} "
                    f"it has {', '.join(observation) or 'nothing'}; "
                    f"the policy needs {', '.join(self.features.observation)}"
                )
            value = self._on_device(observation[name])
            wanted = (self.window.n_obs_steps, *feature.shape)
            if tuple(value.shape[1:]) != wanted:
                raise ConfigError(
                    f"observation {name!r} has shape {list(value.shape)}, "
                    f"the policy needs [B, {', '.join(map(str, wanted))}]"
                )
            if feature.kind == "image" and value.dtype != torch.uint8:
                dtype = str(value.dtype).removeprefix("torch.")
                raise ConfigError(f"observation {name!r} is {dtype}: pictures are uint8, 0 to 255")
            checked[name] = value
        return checked


def _normalised(features: Features) -> dict[str, Feature]:
    """All but the images."""
    return {name: f for name, f in features.named().items() if f.kind != "image"}

"""How far the next actions move without a place of a picture: gradients of drawn chunks."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput
from dipole.policy.encoders.cameras.cameras_encoder import CamerasEncoder
from dipole.policy.execution.history import executed_slice
from dipole.policy.inspection.sampling import draw_chunks, inspecting, repeated
from dipole.policy.policy import Policy

INFLUENCE = "influence"


def influence_maps(policy: Policy, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By camera, [h', w'] of its newest picture.

    To first order, how far the executed actions, normalised, move where a cell's features f are
    replaced by r, those of a picture of one colour, the median: the root mean square over drawn
    chunks and directions d = +-1 of sum_c (dJ/df_c) (f_c - r_c), J = d . actions. Gradient times
    input with a reference (Shrikumar et al., 2017), summed over channels as in Grad-CAM (Selvaraju
    et al., 2017). A camera whose features nothing follows from is left out.

    observation: Normalised, of one row.
    """
    leaves: dict[str, Tensor] = {}
    references = _features(policy, _blank(policy, observation))

    def as_leaves(outputs: Mapping[str, BackboneOutput]) -> dict[str, BackboneOutput]:
        for name, output in outputs.items():
            leaves[name] = output.features.detach().clone().requires_grad_()
        return {name: replace(output, features=leaves[name]) for name, output in outputs.items()}

    with torch.enable_grad(), inspecting(policy, as_leaves):
        context = policy.encoder.compose(policy.encoder.contexts(repeated(observation)))
        if not leaves:
            return {}
        chunks = draw_chunks(policy, context)[:, executed_slice(policy.window)]
        gradients = torch.autograd.grad(
            (chunks * _directions(chunks)).sum(), list(leaves.values()), allow_unused=True
        )
    frames = policy.window.n_obs_steps
    return {
        name: _effect(leaf.detach() - references[name], gradient, frames)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
        if gradient is not None
    }


def _blank(policy: Policy, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The observation with pictures [1, To, H, W, C] of one colour each, their median."""
    found = dict(observation)
    for name, value in observation.items():
        if policy.features.observation[name].kind in CamerasEncoder.kinds:
            median = value.flatten(2, 3).median(2).values  # [1, To, C]
            found[name] = median[:, :, None, None].expand_as(value)
    return found


def _features(policy: Policy, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By camera, of the newest picture, [C, h', w']."""
    found: dict[str, Tensor] = {}

    def note(outputs: Mapping[str, BackboneOutput]) -> Mapping[str, BackboneOutput]:
        found.update({name: output.features[-1] for name, output in outputs.items()})
        return outputs

    with torch.no_grad(), inspecting(policy, note):
        policy.encoder.contexts(observation)
    return found


def _effect(change: Tensor, gradient: Tensor, frames: int) -> Tensor:
    """change, gradient: [rows * frames, C, h', w'] -> [h', w'] of the newest frame."""
    effect = (gradient * change).float().sum(1)  # [rows * frames, h', w']
    effect = effect.view(-1, frames, *effect.shape[1:])[:, -1]
    influence: Tensor = effect.square().mean(0).sqrt()
    return influence


def _directions(chunks: Tensor) -> Tensor:
    """1 or -1 for each number, always the same."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(2, chunks.shape, generator=generator) * 2 - 1
    return drawn.to(chunks)

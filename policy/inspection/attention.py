"""Where in pictures a chunk's frames attend to, where a denoiser attends to tokens."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dipole.policy.context import Context
from dipole.policy.denoisers.attention import CrossAttention, split_heads
from dipole.policy.encoders.base import WHOLE
from dipole.policy.encoders.cameras.backbones.backbone import BackboneOutput
from dipole.policy.encoders.cameras.cameras_encoder import CamerasEncoder
from dipole.policy.inspection.sampling import draw_chunks, inspecting, repeated
from dipole.policy.policy import Policy

ATTENTION = "attention"


def cross_attention(policy: Policy) -> list[CrossAttention]:
    """The layers by which the policy's denoiser attends to pictures' tokens."""
    cameras = [each for each in policy.encoder.modules() if isinstance(each, CamerasEncoder)]
    if not any(each.tokens is not None for each in cameras):
        return []
    return [each for each in policy.head.modules() if isinstance(each, CrossAttention)]


def attention_maps(policy: Policy, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By camera, the attention to the cells of its newest picture, [h', w']; 1 is an even share of
    what all tokens get.

    The mean over drawn chunks, layers, heads, a chunk's frames and the solver's steps.

    observation: Normalised, of one row.
    """
    sizes: dict[str, tuple[int, int]] = {}

    def note(outputs: Mapping[str, BackboneOutput]) -> Mapping[str, BackboneOutput]:
        for name, output in outputs.items():
            sizes[name] = (output.features.shape[2], output.features.shape[3])
        return outputs

    with torch.no_grad():
        with inspecting(policy, note):
            contexts = policy.encoder.contexts(repeated(observation))
        with _recording(cross_attention(policy)) as weights:
            draw_chunks(policy, policy.encoder.compose(contexts))
    if not sizes or not weights:
        return {}
    tokens = torch.stack(weights).mean(0)  # [K]
    tokens = tokens / tokens.mean().clamp(min=1e-12)
    start, frames = _first_token(policy, contexts), policy.window.n_obs_steps
    maps = {}
    for name, (height, width) in sizes.items():
        cells = height * width
        newest = start + (frames - 1) * cells
        maps[name] = tokens[newest : newest + cells].view(height, width)
        start += frames * cells
    return maps


def _first_token(policy: Policy, contexts: Mapping[str, Context]) -> int:
    """The number of the cameras' first token among those of all parts."""
    parts = getattr(policy.encoder, "encoders", {WHOLE: policy.encoder})
    before = 0
    for name, context in contexts.items():
        if isinstance(parts[name], CamerasEncoder):
            break
        before += 0 if context.tokens is None else context.tokens.shape[1]
    return before


@contextmanager
def _recording(layers: list[CrossAttention]) -> Iterator[list[Tensor]]:
    """Gathers [K] of each evaluation of each layer: the attention to each token."""
    found: list[Tensor] = []

    def record(layer: CrossAttention, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        found.append(_weights(layer, args[0], named["keys_values"]))

    handles = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _weights(layer: CrossAttention, x: Tensor, keys_values: tuple[Tensor, ...]) -> Tensor:
    """[K], without the key that stands for nothing, from x [B, N, C]."""
    query = split_heads(layer.query(layer.norm(x)), layer.heads)  # [B, heads, N, d]
    keys, _, *mask = keys_values
    logits = (query @ keys.transpose(2, 3)).float() / keys.shape[3] ** 0.5
    if mask:
        logits = logits.masked_fill(~mask[0], -torch.inf)
    weights: Tensor = logits.softmax(3).mean((0, 1, 2))
    return weights[:-1]

"""Fidelity and diversity of a policy's chunks, measured on held-out observations.

    fidelity    energy score, error, precision: are chunks like those that were demonstrated there?
    diversity   spread, recall, mode entropy: are all of those that were demonstrated there?

Every number is defined in docs/evaluation.md.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import ConfigError
from dipole.data.core.units import each_unit
from dipole.envs.evaluation.metrics import mean_interval
from dipole.envs.evaluation.motion import third_differences
from dipole.envs.quality.distances import energy_distance, energy_scores, errors, spreads
from dipole.envs.quality.held_out import HeldOut
from dipole.envs.quality.likelihood import demonstrated_likelihood
from dipole.envs.quality.manifold import precision_recall
from dipole.envs.quality.modes import mode_entropy
from dipole.envs.quality.sampling import sample_chunks
from dipole.envs.quality.settings import FEWEST_OBSERVATIONS, AspectSettings
from dipole.policy.execution.executor import ChunkPolicy


@dataclass(frozen=True)
class Aspects:
    """What was found.

    values: The key `aspects` of metrics.json.
    samples, demonstrated: The chunks' compared frames in standard deviations, [N, S, F, A] and
        [N, F, A].
    errors, spreads: Of each observation, [N].
    """

    values: dict[str, Any]
    samples: np.ndarray
    demonstrated: np.ndarray
    errors: np.ndarray
    spreads: np.ndarray


def measure_aspects(
    policy: ChunkPolicy,
    held_out: HeldOut,
    frames: slice,
    settings: AspectSettings,
    *,
    seed: int = 0,
    hz: float | None = None,
    metrics: Mapping[str, Any] | None = None,
    pool: ThreadPoolExecutor | None = None,
) -> Aspects:
    """Draw chunks for held-out observations and compare them with what was demonstrated.

    frames: Of a chunk, those that are compared: the executed ones.
    hz: Steps a second, None if unknown.
    metrics: Of the evaluation: its modes, motion and times are taken over.
    pool: Infers for several batches at once, which changes no result.
    Raises ConfigError for fewer observations than a neighbourhood needs.
    """
    if len(held_out) < FEWEST_OBSERVATIONS:
        raise ConfigError(
            f"{held_out.dataset}: {len(held_out)} held-out observations are too few to compare: "
            f"{FEWEST_OBSERVATIONS} are needed; set aspects=false"
        )
    chunks = sample_chunks(policy, held_out.observation, settings.samples, seed, pool)
    samples = held_out.standardized(chunks, frames)  # [N, S, D]
    demonstrated = held_out.standardized_action(frames)  # [N, D]
    values = {
        "dataset": held_out.dataset,
        "observations": len(held_out),
        "samples": settings.samples,
        "frames": [frames.start, frames.stop],
        **_conditional(samples, demonstrated),
        **_pooled(samples, demonstrated),
        **_likelihood(policy, held_out, settings.likelihood, seed, pool),
        **_of_episodes(metrics or {}),
        "demonstrated_jerk": _demonstrated_jerk(held_out, frames, hz),
        "action_errors": _action_errors(held_out, chunks, frames),
    }
    actions = held_out.action.shape[-1]
    return Aspects(
        values,
        samples.reshape(*samples.shape[:2], -1, actions),
        demonstrated.reshape(len(demonstrated), -1, actions),
        errors(samples, demonstrated),
        spreads(samples),
    )


def _conditional(samples: np.ndarray, demonstrated: np.ndarray) -> dict[str, Any]:
    """Observation by observation: intervals are over observations."""
    error, spread = errors(samples, demonstrated), spreads(samples)
    found: dict[str, Any] = {}
    for name, each in (
        ("energy_score", energy_scores(samples, demonstrated)),
        ("error", error),
        ("spread", spread),
    ):
        found[name] = float(each.mean())
        found[f"{name}_ci95"] = list(mean_interval(each.tolist()))
    found["spread_ratio"] = float(spread.mean() / error.mean()) if error.any() else None
    return found


def _action_errors(held_out: HeldOut, chunks: np.ndarray, frames: slice) -> list[dict[str, Any]]:
    """Of each of the robot's numbers, in its unit: the mean absolute error of chunks [N, S, H, A],
    over observations, samples and frames."""
    demonstrated = held_out.demonstrated()[:, None, frames]
    each = np.abs(chunks[:, :, frames] - demonstrated).mean((1, 2))  # [N, A]
    action, size = held_out.features.action, each.shape[1]
    names = action.names or tuple(map(str, range(size)))
    return [
        {
            "name": name,
            "unit": unit,
            "error": float(errors.mean()),
            "error_ci95": list(mean_interval(errors.tolist())),
        }
        for name, unit, errors in zip(names, each_unit(action.units, size), each.T, strict=True)
    ]


def _pooled(samples: np.ndarray, demonstrated: np.ndarray) -> dict[str, float]:
    """Over all observations: means over sets of one sample of each."""
    sets = [samples[:, number] for number in range(samples.shape[1])]
    both = np.array([precision_recall(each, demonstrated) for each in sets]).mean(0)
    return {
        "energy_distance": float(np.mean([energy_distance(each, demonstrated) for each in sets])),
        "precision": float(both[0]),
        "recall": float(both[1]),
    }


def _likelihood(
    policy: ChunkPolicy, held_out: HeldOut, steps: int, seed: int, pool: ThreadPoolExecutor | None
) -> dict[str, Any]:
    """None where it is not asked for, and where the policy has none."""
    each = demonstrated_likelihood(policy, held_out, steps, seed, pool) if steps else None
    if each is None:
        return {"log_likelihood": None}
    return {
        "log_likelihood": float(each.mean()),
        "log_likelihood_ci95": list(mean_interval(each.tolist())),
    }


def _of_episodes(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the episodes of the evaluation say beside their scores."""
    episodes = metrics.get("per_episode", [])
    modes = [str(e["mode"]) for e in episodes if e.get("mode") is not None and e.get("success")]
    times = metrics.get("policy_ms")
    return {
        "mode_entropy": mode_entropy(modes, len(metrics.get("modes", ()))),
        "modes": {mode: modes.count(mode) for mode in sorted(set(modes))},
        "seam_jump": metrics.get("seam_jump"),
        "jerk": metrics.get("jerk"),
        "evaluations_per_chunk": metrics.get("evaluations_per_chunk"),
        "chunk_ms": None if times is None else times["p50"] / times["rows"],
    }


def _demonstrated_jerk(held_out: HeldOut, frames: slice, hz: float | None) -> float | None:
    jerks = third_differences(held_out.demonstrated()[:, frames]) * (hz or 1.0) ** 3
    return float(jerks.mean()) if jerks.size else None

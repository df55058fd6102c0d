"""Evaluation: episodes run over slots, what came of them, and how results compare."""

from dipole.envs.evaluation.results import EpisodeResult, Evaluation
from dipole.envs.evaluation.summary import check_scored, latency, summarize

__all__ = ["EpisodeResult", "Evaluation", "check_scored", "latency", "summarize"]

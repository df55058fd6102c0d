"""The `metrics.json` of an evaluation, read back: of this edition and of the first."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError

FILE = "metrics.json"
# What each number of an episode is called in metrics.json; the first edition has no return.
SCORE, SUCCESS, RETURN = "score", "success", "return"
FIRST_EDITION_SCORE = "max_reward"
SETTINGS = ("max_steps", "reset", "success")  # of the environment, that pairs have in common
AT_END = "success_at_end"
SCORES = ("max_reward", "final_reward", SUCCESS, AT_END, RETURN)


@dataclass(frozen=True)
class EvaluationResult:
    """What one evaluation found.

    path: Of its metrics.json.
    terms: Everything in the file but the episodes.
    score_name: What decides in the environment: max_reward, final_reward, success, success_at_end
        or return.
    episodes: {seed: {"score", "success", "return": a number}}; what was not measured is left out.
    tasks: {seed: name of the episode's task}, where it was one of several.
    """

    path: Path
    terms: Mapping[str, Any]
    score_name: str
    episodes: Mapping[int, Mapping[str, float]]
    tasks: Mapping[int, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, Any]:
        """Id, version, options and, unless the first edition wrote it, what else makes an episode
        what it is: its time limit, options of its reset, and where its success was read."""
        settings = self.terms.get("environment_settings")
        said = {} if not isinstance(settings, dict) else {n: settings.get(n) for n in SETTINGS}
        options = self.terms.get("environment_options") or {}
        return {**self.terms["environment"], "options": options, **said}

    @property
    def seeds(self) -> list[int]:
        """Of the episodes, ascending."""
        return sorted(self.episodes)

    def is_proportion(self, measure: str) -> bool:
        """Whether score, success or return, whichever `measure` is, is 0 or 1 in each episode."""
        shares = (SUCCESS, AT_END)
        return measure == SUCCESS or (measure == SCORE and self.score_name in shares)

    def measures(self) -> list[str]:
        """Those of score, success and return that every episode has."""
        each = self.episodes.values()
        return [name for name in (SCORE, SUCCESS, RETURN) if all(name in one for one in each)]


def read_result(path: Path | str) -> EvaluationResult:
    """An evaluation's folder, or its metrics.json.

    Raises DataError, naming the file, for what is no evaluation and for a damaged file.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: there is no such folder or file")
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"{path}: no evaluation (it has no {FILE}); give the output folder of `dipole evaluate`"
        )
    terms = _terms(file)
    score = _score_name(file, terms)
    episodes: dict[int, Mapping[str, float]] = {}
    tasks: dict[int, str] = {}
    for number, entry in enumerate(_with_failures(terms.pop("per_episode"))):
        seed = entry.get("seed") if isinstance(entry, dict) else None
        if type(seed) is not int:
            raise DataError(f"{file}: episode {number} has no seed; the file is damaged")
        if seed in episodes:
            raise DataError(f"{file}: seed {seed} is there twice; the file is damaged")
        episodes[seed] = _numbers(file, entry, score)
        if isinstance(entry.get("task"), str):
            tasks[seed] = entry["task"]
    return EvaluationResult(file, terms, score, episodes, tasks)


def _terms(file: Path) -> dict[str, Any]:
    try:
        terms = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON ({error}); evaluate again") from error
    if isinstance(terms, dict) and "aspects" in terms and "per_episode" not in terms:
        raise DataError(
            f"{file}: it is of held-out demonstrations alone, without episodes to pair: compare "
            "energy_score and its interval in the two metrics.json"
        )
    if not isinstance(terms, dict) or not isinstance(terms.get("per_episode"), list):
        raise DataError(f"{file}: no evaluation's metrics: it has no list per_episode")
    if not terms["per_episode"]:
        raise DataError(f"{file}: the evaluation has no episodes")
    if not isinstance(terms.get("environment"), dict):
        raise DataError(f"{file}: the environment is missing; the file is damaged")
    return terms


def _with_failures(entries: list[Any]) -> list[Any]:
    """Where any episode knows success, one that said nothing has failed."""
    tables = [entry for entry in entries if isinstance(entry, dict)]
    if any(entry.get(SUCCESS) is not None for entry in tables):
        for entry in tables:
            entry[SUCCESS] = bool(entry.get(SUCCESS))
            entry[AT_END] = bool(entry.get(AT_END))
    return entries


def _score_name(file: Path, terms: Mapping[str, Any]) -> str:
    """max_reward, of max_reward or max_reward_mean; success_rate is success."""
    given = str(terms.get("score_name") or FIRST_EDITION_SCORE)
    name = given.removesuffix("_mean").removesuffix("_rate")
    if name not in SCORES:
        raise DataError(f"{file}: score_name is {given!r}; known: {', '.join(SCORES)}")
    return name


def _numbers(file: Path, entry: Mapping[str, Any], score: str) -> dict[str, float]:
    found = {}
    for name, key in ((SCORE, score), (SUCCESS, SUCCESS), (RETURN, RETURN)):
        value = entry.get(key)
        if value is None:
            continue
        if not _is_finite(value):
            raise DataError(f"{file}: {key} of seed {entry['seed']} is {value!r}; it is damaged")
        found[name] = float(value)
    if SCORE not in found:
        raise DataError(f"{file}: the episode of seed {entry['seed']} has no {score}")
    return found


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False

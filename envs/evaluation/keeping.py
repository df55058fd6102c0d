"""An evaluation's episodes as a dataset: what the policy saw and did, and what came of it.

observation t, action t, reward t     frame t, under the stored keys that the policy was trained on
targets t                             what they are made of, where the simulator has it
seed, success                         of each episode, as `dipole record` writes them
state_not_finite                      of one that ended so: its frames are those before
"""

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from dipole.data.core.errors import DataError, DipoleError
from dipole.data.loading.features import Feature
from dipole.data.recording.episode_writer import EpisodeWriter
from dipole.data.recording.record import ACTION
from dipole.data.store.numbers import NOT_FINITE, SEED, SUCCESS
from dipole.data.store.partial_folder import partial_folder
from dipole.envs.contract import EnvSpec
from dipole.envs.evaluation.results import EpisodeResult
from dipole.envs.experts.recorded import RecordedKeys, recorded_schema
from dipole.envs.experts.recorder import ATTRIBUTE, is_begun
from dipole.envs.interface import LiveFeature, entries_of, live_targets
from dipole.envs.rollout.first_look import made, observed
from dipole.envs.rollout.kept import REWARD, KeptEpisode
from dipole.envs.rollout.resolved import ResolvedEnvironment


def recorded_keys(resolved: ResolvedEnvironment) -> RecordedKeys:
    """Which entries of the simulator's observation are kept, under which stored keys: those that
    the policy's features and the targets are made of."""
    entries: dict[str, str] = {}
    texts: list[str] = []
    depth: list[str] = []
    for each in resolved.interface.features or ():
        feature = each.feature
        if feature is not None and feature.kind == "text":
            texts += [] if each.words is not None else [each.entry]
        else:
            key = (feature.source if feature is not None else "") or each.name
            entries[key] = each.entry
            depth += [] if each.has_to_be_finite else [key]
    for each in resolved.targets:
        entries.setdefault(each.key, each.entry)
    words = resolved.settings.get("instruction") or ""
    return RecordedKeys(entries, tuple(texts), words, tuple(depth))


def keeping_targets(
    resolved: ResolvedEnvironment, targets: Mapping[str, Feature] | None, seed: int
) -> ResolvedEnvironment:
    """The environment that looks at what targets are made of too, where it has that.

    What it has not is warned of: a policy may have learnt to tell what only its demonstrations say.
    seed: Of the reset that shows it.
    """
    if not targets:
        return resolved
    live = live_targets(targets, resolved.names, (ACTION, REWARD))
    seen = recorded_keys(resolved).entries
    more = tuple(each for each in live if each.key not in seen)
    offered = _offered(resolved, more, seed) if more else ()
    kept = tuple(each for each in live if each.key in seen or each in offered)
    return resolved.with_targets(kept)


def _offered(
    resolved: ResolvedEnvironment, targets: tuple[LiveFeature, ...], seed: int
) -> tuple[LiveFeature, ...]:
    """Those that the environment has, by looking once, or for each of them where one is absent."""
    looking = resolved.with_targets(targets)
    interface = looking.interface
    try:
        with made(looking.name, looking.make) as environment:
            seen = observed(looking.name, environment, interface, interface.entries, seed)
            for each in targets:
                each.read(entries_of(seen))
            recorded_keys(looking).read(seen)
            return targets
    except DipoleError as error:
        if len(targets) > 1:
            return tuple(kept for each in targets for kept in _offered(resolved, (each,), seed))
        said, _, _ = str(error).partition("\n")
        warnings.warn(
            f"kept without what target {targets[0].name!r} is made of, {targets[0].entry!r}: "
            f"{said}",
            stacklevel=2,
        )
        return ()


def check_new(path: Path | str) -> Path:
    """Raises DataError where there is a dataset already, finished or not."""
    path = Path(path).expanduser()
    if is_begun(path):
        unfinished = f"an unfinished dataset lies in {partial_folder(path)}"
        what = "exists already" if path.exists() else unfinished
        raise DataError(
            f"{path}: {what}, and kept episodes replace nothing: give keep_episodes=PATH where "
            "nothing is"
        )
    return path


class KeptEpisodes(AbstractContextManager["KeptEpisodes"]):
    """The dataset of an evaluation, complete when it is left; None as a path keeps nothing.

    Episodes are written in their order, whatever the order in which they end.
    """

    def __init__(
        self, path: Path | None, resolved: ResolvedEnvironment, policy: Any, fps: float | None
    ) -> None:
        self._writer: EpisodeWriter | None = None
        self._early: dict[int, tuple[EpisodeResult, KeptEpisode]] = {}
        self._next = 0
        if path is None:
            return
        environment = {"name": resolved.name, "options": resolved.options, **resolved.settings}
        said = {
            "environment": environment,
            "policy": str(getattr(policy, "checkpoint", None) or "not recorded"),
            "keys": dict(recorded_keys(resolved).entries),
        }
        made_with = EnvSpec(resolved.name, options=resolved.options)
        features = policy.features if hasattr(policy.features, "action") else None
        self._writer = EpisodeWriter(
            path,
            fps=fps,
            features=recorded_schema(features, disturbed=False, targets=resolved.targets),
            environment={**resolved.version, **made_with.meaning},
            attributes={ATTRIBUTE: said},
        )

    def add(self, episode: int, result: EpisodeResult, kept: KeptEpisode) -> None:
        """An episode that is over. episode: 0, 1, ... in the order in which they are written."""
        self._early[episode] = (result, kept)
        while self._next in self._early:
            self._write(*self._early.pop(self._next))
            self._next += 1

    def _write(self, result: EpisodeResult, kept: KeptEpisode) -> None:
        assert self._writer is not None
        if not len(kept.frames[ACTION]):  # the first step diverged
            return
        numbers = {SEED: result.seed}
        if result.ended_by == NOT_FINITE:
            numbers[NOT_FINITE] = 1
        if result.success is not None:
            numbers[SUCCESS] = int(result.success)
        self._writer.add_episode(kept.frames, kept.words or result.task or "", numbers)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None and error is None and not self._writer.n_episodes:
            warnings.warn("no episode had a finite step, so none is kept", stacklevel=2)
            self._writer.abandon()
        elif self._writer is not None:
            self._writer.complete_numbers(SUCCESS, 0)  # as in metrics.json, see summary.py
            self._writer.__exit__(kind, error, trace)

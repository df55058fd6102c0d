"""A teacher's chunks at the frames of an episode, whoever acted in it.

The teacher sees what was recorded: the stored keys that its features are made of. So a recording
and a dataset that is there already are labelled alike, without a simulator.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import nearest
from dipole.data.loading.features import TRANSFORMS, Feature
from dipole.data.loading.frame_selection import select_frames
from dipole.data.loading.text import encode_text
from dipole.data.recording.record import ACTION
from dipole.data.store.labels import TEACHER_CHUNK, valid_key
from dipole.data.store.tasks import TaskSpans
from dipole.policy.core.threads import torch_threads
from dipole.policy.execution.executor import predict_rows

ROWS = 64  # frames whose chunks are drawn at once: of a number that changes no row, see `Executor`


class Labeller:
    """Draws the chunks that a policy would execute from the frames of an episode.

    policy: The teacher. every: Each so many-th frame has one. length: Actions of a chunk, from the
    frame's own time on; None: as many as the teacher's chunks have.
    Raises ConfigError where these are fewer.
    """

    def __init__(self, policy: Any, every: int = 1, length: int | None = None) -> None:
        self.policy, self.every = policy, every
        self.length = chunk_length(policy.window, length)

    def __call__(
        self, frames: Mapping[str, np.ndarray], words: TaskSpans, seed: int
    ) -> dict[str, np.ndarray]:
        """{"teacher_chunk": [T, H, A]}, zeros where there is none, and then which frames have one.

        frames: {stored key: [T, *shape]} of an episode, with "action". words: What was to be done.
        seed: Each chunk's noise is a function of it and of the frame alone. Raises ConfigError,
        naming the key, for what the teacher sees and is not there.
        """
        count = len(frames[ACTION])
        seen = observed(self.policy, frames, words, count)
        labelled = np.arange(0, count, self.every)
        first = self.policy.window.n_obs_steps - 1
        steps = slice(first, first + self.length)
        with torch_threads(1):  # as worker processes have it: others may round differently
            drawn = [
                self._drawn(seen, labelled[at : at + ROWS], seed)[:, steps]
                for at in range(0, len(labelled), ROWS)
            ]
        chunks = np.zeros((count, *drawn[0].shape[1:]), np.float32)
        chunks[labelled] = np.concatenate(drawn)
        if self.every == 1:
            return {TEACHER_CHUNK: chunks}
        valid = np.zeros(count, bool)
        valid[labelled] = True
        return {TEACHER_CHUNK: chunks, valid_key(TEACHER_CHUNK): valid}

    def _drawn(self, seen: Mapping[str, np.ndarray], labelled: np.ndarray, seed: int) -> np.ndarray:
        """Chunks [n, H, A] at these frames, int [n]."""
        back = np.arange(self.policy.window.n_obs_steps)[::-1]
        shown = np.maximum(labelled[:, None] - back, 0)  # [n, To]; the first one is repeated
        generators = [_generator(seed, int(frame)) for frame in labelled]
        observation = {name: values[shown] for name, values in seen.items()}
        chunks = predict_rows(self.policy, observation, generators, ROWS)
        finite = np.isfinite(chunks).all(axis=(1, 2))
        if not finite.all():
            raise DataError(
                f"frame {labelled[int(finite.argmin())]}: the teacher's chunk is not finite: check "
                "what it observes, and its checkpoint (did its training loss turn NaN?)"
            )
        return chunks


def chunk_length(window: Any, wanted: int | None) -> int:
    """Actions that a teacher's chunk has from the current frame on, or as many of them as wanted.

    Raises ConfigError where there are fewer.
    """
    own = int(window.horizon - (window.n_obs_steps - 1))
    if wanted is not None and wanted > own:
        raise ConfigError(
            f"labels of {wanted} actions: the teacher's chunks have {own} from the current frame "
            f"on (horizon {window.horizon}, n_obs_steps {window.n_obs_steps}): ask for {own} at "
            "most, or take a teacher with a longer horizon"
        )
    return own if wanted is None else wanted


def observed(
    policy: Any, frames: Mapping[str, np.ndarray], words: TaskSpans, count: int
) -> dict[str, np.ndarray]:
    """What the policy sees of each frame, {name: [T, *stored_shape]}, out of stored keys."""
    optional = tuple(getattr(policy, "optional", ()))
    seen = {}
    for name, feature in policy.features.observation.items():
        key = feature.source or name
        if feature.kind == "text":
            seen[name] = _told(words, count, feature.shape[0])
        elif key in frames:
            seen[name] = _made(name, feature, frames[key])
        elif name not in optional:
            raise ConfigError(
                f"the teacher sees {name!r}, made of {key!r}{nearest(key, frames) or ';'} recorded "
                f"are {', '.join(sorted(frames))}"
            )
    return seen


def _made(name: str, feature: Feature, frames: np.ndarray) -> np.ndarray:
    transform = None if feature.transform is None else TRANSFORMS[feature.transform]
    try:
        made = select_frames(feature, frames, transform)
    except (DataError, ValueError, IndexError) as error:
        raise ConfigError(f"the teacher's observation {name!r}: {error}") from error
    if made.shape[1:] != feature.stored_shape:
        raise ConfigError(
            f"the teacher's observation {name!r}: shape {list(feature.stored_shape)} is needed, "
            f"and the stored frames give {list(made.shape[1:])}"
        )
    if not feature.is_numeric and made.dtype != np.uint8:
        raise ConfigError(
            f"the teacher's observation {name!r}: pictures of {made.dtype}, not uint8"
        )
    return np.ascontiguousarray(made, feature.dtype)


def _told(words: TaskSpans, count: int, size: int) -> np.ndarray:
    """The words of each frame, uint8 [T, size]; nothing before the first."""
    told = np.zeros((count, size), np.uint8)
    for first, text in words:
        told[first:] = encode_text(text, size)
    return told


def _generator(seed: int, frame: int) -> torch.Generator:
    (state,) = np.random.SeedSequence([seed, 4, frame]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def labels_schema(action: Feature | None, every: int) -> dict[str, dict[str, Any]]:
    """What is said of the labels' keys, as `EpisodeWriter` takes it. action: Of the task."""
    units: Sequence[str] | str = (
        "" if action is None or action.columns is not None else action.units
    )
    said: dict[str, Any] = {"kind": "action"}
    if units:
        said["units"] = units if isinstance(units, str) else list(units)
    schema = {TEACHER_CHUNK: said}
    return schema if every == 1 else {**schema, valid_key(TEACHER_CHUNK): {"kind": "state"}}

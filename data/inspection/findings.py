"""What validation finds: problems, which training must not see, and warnings to look at."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

MOST_PER_ARRAY = 10  # findings of one sort that are listed
MOST_COUNTED = 1000  # and that are counted


@dataclass(frozen=True)
class Finding:
    """level: problem or warning; where: a key or part of the dataset; message: what, what to do."""

    level: str
    where: str
    message: str


@dataclass
class Validation:
    """What was found in a dataset; `ok` where nothing is a problem."""

    path: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "problem"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "warning"]

    @property
    def ok(self) -> bool:
        return not self.problems

    def problem(self, where: str, *messages: str) -> None:
        self._add("problem", where, messages)

    def warning(self, where: str, *messages: str) -> None:
        self._add("warning", where, messages)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"path": self.path, "ok": self.ok, "findings": [asdict(f) for f in self.findings]}

    def _add(self, level: str, where: str, messages: tuple[str, ...]) -> None:
        listed = [*messages[:MOST_PER_ARRAY]]
        if len(messages) > len(listed):
            listed.append(f"and at least {len(messages) - len(listed)} more like these")
        self.findings += [Finding(level, where, message) for message in listed]


def frame_text(frame: int, ends: np.ndarray) -> str:
    """ "frame 120 (episode 3, its frame 7)"; ends: of the episodes, exclusive."""
    episode = int(np.searchsorted(ends, frame, side="right"))
    if episode >= len(ends):
        return f"frame {frame}"
    start = int(ends[episode - 1]) if episode else 0
    return f"frame {frame} (episode {episode}, its frame {frame - start})"


def column_text(column: int, frame_shape: tuple[int, ...], names: tuple[str, ...] = ()) -> str:
    """A column's place in a frame: "3", "(3, 1)" for several axes, "3 (wrist)" with a name."""
    place = tuple(int(i) for i in np.unravel_index(column, frame_shape or (1,)))
    text = str(place[0]) if len(place) == 1 else str(place)
    return f"{text} ({names[column]})" if len(names) == int(np.prod(frame_shape)) else text


def times_text(count: int) -> str:
    """ "once", or "7 times"."""
    return "once" if count == 1 else f"{count} times"


def counted(count: int, what: str) -> str:
    """ "1 frame", or "7 frames"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

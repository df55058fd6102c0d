"""A student by its teacher's configuration: what it predicts, and what a person is told of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dipole.data.core.errors import ConfigError

Config = Mapping[str, Any]
NOISE, V = "noise", {"name": "v"}


def name_of(part: Config | str | None) -> str | None:
    """Of a component: "flow" of "flow" and of {"name": "flow"}."""
    return part if isinstance(part, str) or part is None else part.get("name")


def not_a_diffusion_head(name: str) -> ConfigError:
    return ConfigError(
        f"the teacher's head is {name!r}: a diffusion policy is needed (policy/head=diffusion)"
    )


def predicts_noise(policy: Config) -> bool:
    """Whether the network of a policy's configuration says what noise is in x. Where hardly any
    signal is left, where a student's one jump begins, that says nothing of the chunk: the clean
    chunk is (x - noise epsilon) / signal, and vp's signal is 5e-4 there (Salimans & Ho, 2022,
    section 4)."""
    name = name_of(policy.get("prediction"))
    return name == NOISE or (name is None and name_of(policy.get("process")) in (None, "vp"))


def notes(teacher: Config, student: Config, checkpoint: Path, needs_teacher: bool) -> Iterator[str]:
    """What of a teacher its student does not have, a line each.

    teacher, student: Their policies' configurations. checkpoint: The teacher's.
    """
    if not needs_teacher:
        yield (
            f"this method has no teacher: {checkpoint} gives the task, the data and the network's "
            "sizes alone, not its weights"
        )
    if predicts_noise(teacher) and student.get("prediction") == V:
        yield _of_prediction(needs_teacher)
    guidance = teacher.get("guidance")
    if guidance is not None and student.get("guidance") is None:
        yield _of_guidance(guidance.get("scale", 1.0), needs_teacher)
    prefix = teacher["head"].get("prefix") or {}
    if prefix.get("probability", 0):
        yield (
            "the teacher was trained to go on from actions that are known (policy.head.prefix, of "
            "real-time chunking); the student is not"
        )


def _of_prediction(begins_with_weights: bool) -> str:
    why = "the teacher predicts noise, which says nothing of the chunk where one jump begins"
    if not begins_with_weights:
        return f"{why}: the student learns v"
    return (
        f"{why}: the student learns v. It begins with the teacher's weights, whose output means v "
        "only at little noise, and needs more updates (train.steps) than the student of a teacher "
        "of v or sample"
    )


def _of_guidance(scale: float, has_teacher: bool) -> str:
    if not has_teacher:
        return "this method learns no guidance: the policy is trained without"
    return (
        f"the student's chunks are the teacher's at guidance_scale={scale:g}, without a second "
        "evaluation; method=lcm learns other scales too"
    )

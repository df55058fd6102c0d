"""A student by its teacher's configuration: what it predicts, and what a person is told of it."""

from collections.abc import Iterator, Mapping
from typing import Any

Config = Mapping[str, Any]
NOISE, V = "noise", {"name": "v"}


def name_of(part: Config | str | None) -> str | None:
    """Of a component: "flow" of "flow" and of {"name": "flow"}."""
    return part if isinstance(part, str) or part is None else part.get("name")


def predicts_noise(policy: Config) -> bool:
    """Whether the network of a policy's configuration says what noise is in x. Where hardly any
    signal is left, where a student's one jump begins, that says nothing of the chunk: the clean
    chunk is (x - noise epsilon) / signal, and vp's signal is 5e-4 there (Salimans & Ho, 2022,
    section 4)."""
    name = name_of(policy.get("prediction"))
    return name == NOISE or (name is None and name_of(policy.get("process")) in (None, "vp"))


def prediction_notes(teacher: Config, student: Config, begins_with_weights: bool) -> Iterator[str]:
    if not predicts_noise(teacher) or student.get("prediction") != V:
        return
    note = "the teacher predicts noise, which says nothing of the chunk where one jump begins: the "
    note += "student learns v"
    if begins_with_weights:
        note += (
            ". It begins with the teacher's weights, whose output means v only at little noise, "
            "and needs more updates (train.steps) than the student of a teacher of v or sample"
        )
    yield note


def guidance_notes(teacher: Config, student: Config, needs_teacher: bool) -> Iterator[str]:
    guidance = teacher.get("guidance")
    if guidance is None or student.get("guidance") is not None:
        return
    if not needs_teacher:
        yield "this method learns no guidance: the policy is trained without"
        return
    yield (
        f"the student's chunks are the teacher's at guidance_scale={guidance.get('scale', 1.0):g}, "
        "without a second evaluation; method=lcm learns other scales too"
    )

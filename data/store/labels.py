"""The stored keys of a teacher's labels: what it would do at the frames of others."""

TEACHER_CHUNK = "teacher_chunk"  # its chunk from a frame's own time on, [H, A]


def valid_key(key: str) -> str:
    """Where it is stored which frames have a chunk under a key, bool; without it all have one."""
    return f"{key}_valid"

"""What an unfinished store's journal keeps: a record a commit, and what all records come to.

A record says of each array only what has come since the last commit. Bytes behind it are the frames
behind the last full chunk of each array, in the record's order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.store.array_appender import ArrayAppender, ArrayState
from dipole.data.store.tasks import TaskSpans

Record = tuple[dict[str, Any], bytes]
Videos = Mapping[str, Sequence[tuple[int, int]]]  # first frame and bytes of each episode's file


@dataclass
class CommittedArray:
    """An array at the last commit.

    n_frames: in all; sizes: bytes of the chunks in the unfinished shard; tail: the frames behind
    them, as bytes; checked_from: shards before it were finished by others.
    """

    n_frames: int = 0
    sizes: list[int] = field(default_factory=list)
    tail: bytes = b""
    checked_from: int = 0


@dataclass
class Committed:
    """What was committed: episode ends, tasks and numbers, videos and arrays by key."""

    ends: list[int] = field(default_factory=list)
    spans: list[TaskSpans] = field(default_factory=list)
    numbers: list[dict[str, int]] = field(default_factory=list)
    videos: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    arrays: dict[str, CommittedArray] = field(default_factory=dict)


def check_lengths(where: str, start: int, end: int, arrays: Mapping[str, ArrayAppender]) -> None:
    """Raise DataError, beginning with `where`, unless all arrays have the frames up to `end`."""
    for key, array in arrays.items():
        if array.n_frames != end:
            raise DataError(
                f"{where}: {array.n_frames - start} frames of {key!r} where {end - start} are "
                "expected: every key has the same frames in every episode"
            )


def episode_record(
    end: int,
    spans: TaskSpans,
    numbers: Mapping[str, int],
    videos: Videos,
    arrays: Mapping[str, ArrayAppender],
    committed: Mapping[str, ArrayState],
) -> Record:
    """What has come since the last commit, an episode that ends at frame `end`.

    committed: the arrays' states then.
    """
    said, content = {}, b""
    for key, array in arrays.items():
        before, now = committed.get(key), array.state()
        # Within the same shard, chunks are only added; within the same chunk, frames.
        same_shard = before is not None and (
            before.n_frames // array.shard_length == now.n_frames // array.shard_length
        )
        same_chunk = before is not None and (
            before.n_frames // array.chunk_length == now.n_frames // array.chunk_length
        )
        sizes_from = len(before.sizes) if before is not None and same_shard else 0
        tail_from = before.tail.nbytes if before is not None and same_chunk else 0
        tail = now.tail.tobytes()[tail_from:]
        content += tail
        said[key] = {
            "frames": now.n_frames,
            "sizes_from": sizes_from,
            "sizes": now.sizes[sizes_from:],
            "tail_from": tail_from,
            "tail": len(tail),
        }
    last = {key: files[-1:] for key, files in videos.items()}
    record = {"ends": [end], "spans": [spans], "numbers": [dict(numbers)]}
    return {**record, "arrays": said, "videos": last}, content


def whole_record(
    ends: Sequence[int],
    spans: Sequence[TaskSpans],
    numbers: Sequence[Mapping[str, int]],
    videos: Videos,
    committed: Mapping[str, ArrayState],
    checked_from: Mapping[str, int],
) -> Record:
    """Everything that is committed, for a journal that begins anew."""
    arrays = {
        key: {
            "frames": state.n_frames,
            "sizes_from": 0,
            "sizes": state.sizes,
            "tail_from": 0,
            "tail": state.tail.nbytes,
            "checked_from": checked_from.get(key, 0),
        }
        for key, state in committed.items()
    }
    content = b"".join(state.tail.tobytes() for state in committed.values())
    record = {"ends": ends, "spans": spans, "numbers": numbers}
    return {**record, "arrays": arrays, "videos": videos}, content


def committed_by(records: Iterable[Record]) -> Committed:
    """What the records, the oldest first, come to."""
    all_of = Committed()
    for record, content in records:
        all_of.ends += record["ends"]
        all_of.spans += [tuple((first, words) for first, words in s) for s in record["spans"]]
        none: list[dict[str, int]] = [{} for _ in record["ends"]]  # an earlier version's
        all_of.numbers += record.get("numbers", none)
        for key, files in record["videos"].items():
            all_of.videos.setdefault(key, []).extend((first, size) for first, size in files)
        at = 0
        for key, said in record["arrays"].items():
            array = all_of.arrays.setdefault(key, CommittedArray())
            array.n_frames = said["frames"]
            array.sizes = array.sizes[: said["sizes_from"]] + said["sizes"]
            array.tail = array.tail[: said["tail_from"]] + content[at : at + said["tail"]]
            array.checked_from = said.get("checked_from", array.checked_from)
            at += said["tail"]
    return all_of

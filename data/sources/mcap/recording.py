"""Files of an MCAP recording: which belong together, and the messages in them."""

import io
from collections.abc import Collection, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.core.file_kinds import is_mcap
from dipole.data.sources.mcap.chunks import check_chunks
from dipole.data.sources.registry import sorted_by_number


def find_recordings(path: Path) -> list[list[Path]]:
    """The files of each recording, in order of time: one episode each; [] where there are none.

    A file is a recording, and so is a folder with rosbag2's metadata.yaml, whose files follow one
    another. Of any other folder, each file and each folder with files in it is one.
    """
    if path.is_file():
        return [[path]] if is_mcap(path) else []
    files = sorted_by_number(path.glob("*.mcap"))
    if files and (path / "metadata.yaml").is_file():
        return [files]
    folders = sorted_by_number(folder for folder in path.iterdir() if folder.is_dir())
    inside = [found for folder in folders if (found := sorted_by_number(folder.glob("*.mcap")))]
    return [[file] for file in files] + inside


def messages(
    files: list[Path],
    topics: Collection[str] | None = None,
    start: int | None = None,
    stop: int | None = None,
) -> Iterator[tuple[str, str, int, "MessageDecoder"]]:
    """(topic, type, nanoseconds, decoder) of the messages logged in [start, stop), in that order.

    decoder: called without arguments, gives the decoded message. Raises DataError where a file is
    damaged.
    """
    from mcap.reader import make_reader

    for file in files:
        with open(file, "rb") as opened:
            try:
                reader = make_reader(opened, validate_crcs=True)
                check_chunks(file, opened, reader.get_summary())
                wanted = None if topics is None else list(topics)
                yield from _messages(
                    file, reader.iter_messages(wanted, starting_at=start, ending_before=stop)
                )
            except DataError:
                raise
            except Exception as error:  # the library raises its own errors and struct's
                raise DataError(
                    f"{file}: damaged ({error!r}). Where recording was cut short, `mcap recover` "
                    "mends it"
                ) from error


def _messages(file: Path, found: Iterator[Any]) -> Iterator[tuple[str, str, int, "MessageDecoder"]]:
    from mcap_ros2.decoder import DecoderFactory

    factory = DecoderFactory()
    decoders: dict[int, Any] = {}
    for schema, channel, message in found:
        if channel.id not in decoders:
            try:
                with redirect_stderr(io.StringIO()):  # where the parser prints what it raises
                    decoders[channel.id] = factory.decoder_for(channel.message_encoding, schema)
            except Exception:  # whatever the parser of definitions raises
                decoders[channel.id] = None
        decode = decoders[channel.id]
        kind = schema.name if schema is not None else ""
        place = f"{file}: {channel.topic} ({kind}, {channel.message_encoding or 'unknown'})"
        yield channel.topic, kind, message.log_time, MessageDecoder(place, decode, message.data)


class MessageDecoder:
    """One message, decoded when it is called; raises DataError where it cannot be."""

    def __init__(self, place: str, decode: Any, content: bytes) -> None:
        self._place, self._decode, self._content = place, decode, content

    def __call__(self) -> Any:
        if self._decode is None:
            raise DataError(
                f"{self._place} is not a message of ROS 2 that is read (cdr with a ros2msg "
                "definition). Leave its key out"
            )
        try:
            return self._decode(self._content)
        except Exception as error:  # struct's and others', at bytes that are too few
            raise DataError(f"{self._place}: a damaged message ({error})") from error

"""Files of an MCAP recording: which belong together, and the messages in them."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError
from dipole.data.sources.registry import begins_with, sorted_by_number

MAGIC = b"\x89MCAP0\r\n"


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


def is_mcap(path: Path) -> bool:
    """Whether a file begins as MCAP files do."""
    return begins_with(path, MAGIC)


def messages(
    files: list[Path],
    topics: Collection[str] | None = None,
    start: int | None = None,
    stop: int | None = None,
) -> Iterator[tuple[str, str, int, Any]]:
    """(topic, type, nanoseconds, decoder) of the messages logged in [start, stop), in that order.

    decoder: called without arguments, gives the decoded message. Raises DataError where a file is
    damaged.
    """
    for file in files:
        with open(file, "rb") as opened:
            try:
                yield from _messages(file, opened, topics, start, stop)
            except DataError:
                raise
            except Exception as error:  # the library raises its own errors and struct's
                raise DataError(
                    f"{file}: damaged ({error!r}). Where recording was cut short, `mcap recover` "
                    "mends it"
                ) from error


def _messages(
    file: Path, opened: Any, topics: Collection[str] | None, start: int | None, stop: int | None
) -> Iterator[tuple[str, str, int, Any]]:
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    factory = DecoderFactory()
    reader = make_reader(opened, validate_crcs=True)
    wanted = None if topics is None else list(topics)
    found = reader.iter_messages(wanted, starting_at=start, ending_before=stop)
    for schema, channel, message in found:
        decode = factory.decoder_for(channel.message_encoding, schema)
        if decode is None:
            encoding = channel.message_encoding or "unknown"
            what = f"{encoding} with a schema in {schema.encoding if schema else 'nothing'}"
            raise_not_ros2 = DataError(
                f"{file}: {channel.topic} is {what}; read are messages of ROS 2 (cdr, ros2msg). "
                "Choose other topics by keys"
            )
            yield channel.topic, "", message.log_time, _Raises(raise_not_ros2)
            continue
        yield channel.topic, schema.name, message.log_time, _Decoder(decode, message.data)


class _Decoder:
    def __init__(self, decode: Any, content: bytes) -> None:
        self._decode, self._content = decode, content

    def __call__(self) -> Any:
        return self._decode(self._content)


class _Raises:
    def __init__(self, error: DataError) -> None:
        self._error = error

    def __call__(self) -> Any:
        raise self._error

"""Frames of one video file by their number."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from dipole.data.store.video.clip import VideoError
from dipole.data.store.video.container import open_container
from dipole.data.store.video.decoder import IndexedVideo, PacketDecoder, decoder_parameters
from dipole.data.store.video.frame_index import read_index


class VideoReader:
    """Frames of a cut by their number, in any order.

    file: The cut, an mp4 to seek in; closed with the reader.
    Raises VideoError if it cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            container, header = open_container(file)
            if header is None:
                container.close()
                raise VideoError("not an mp4")
            index = read_index(container, header.reordered)
        except BaseException:
            file.close()
            raise
        self.n_frames = len(index)
        self._video = IndexedVideo(index, decoder_parameters(container), self._read)
        self._decoder = PacketDecoder(container, file)

    def close(self) -> None:
        self._decoder.close()

    def frames(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames uint8 [height, width, 3] with these numbers, which increase.

        Raises VideoError, beginning with the frame's number, for one that is not there.
        """
        return self._decoder.frames(self._video, wanted)

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

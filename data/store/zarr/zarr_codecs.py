"""Our image codecs for zarr itself, found through the entry points `zarr.codecs`.

With this package installed, plain zarr reads datasets whose images are JPEG XL or JPEG:
`zarr.open_group("my_task.zarr")["data/camera"][0]`. Nothing of ours imports this file.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from zarr.abc.codec import ArrayBytesCodec

from dipole.data.store.zarr.image_codec import CODECS, decode_image, encode_image


@dataclass(frozen=True)
class ImageCodec(ArrayBytesCodec):  # type: ignore[misc]
    """Chunks [1, height, width, channels] of uint8, each one file of an image format."""

    name: ClassVar[str]
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ImageCodec":
        return cls()

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name}

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        shape = tuple(chunk_spec.shape)
        frame = decode_image(chunk_data.to_bytes(), CODECS[self.name], shape[1:])
        return chunk_spec.prototype.nd_buffer.from_numpy_array(frame.reshape(shape))

    async def _encode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        frame = chunk_data.as_numpy_array()[0]
        return chunk_spec.prototype.buffer.from_bytes(encode_image(frame, CODECS[self.name]))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        raise NotImplementedError(f"{self.name} gives as many bytes as an image needs")


class JxlCodec(ImageCodec):
    """JPEG XL without loss."""

    name = "dipole_jxl"


class JpegCodec(ImageCodec):
    """JPEG of quality 95, no chroma subsampling."""

    name = "dipole_jpeg"

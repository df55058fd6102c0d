"""Chunks of a few kilobytes that claim, or expand to, far more than their array says.

Run as a script: bombs.py FOLDER LIMIT. Opens and reads every dataset in the folder with at most
LIMIT bytes of memory more than it has; prints the error of each.
"""

import bz2
import io
import json
import lzma
import resource
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np

LARGE = 96 * 2**20  # bytes that come out
CHUNK = (4, 30_000)  # float32: stored chunks may have twice its bytes, so bombs reach the codecs


def _zeros(compressor) -> bytes:
    parts = [compressor.compress(bytes(2**20)) for _ in range(LARGE // 2**20)]
    return b"".join([*parts, compressor.flush()])


def compressed() -> dict[str, tuple[dict, bytes]]:
    """By name: the codec's metadata, and a chunk."""
    from numcodecs import blosc, lz4, zstd

    blosc_one = bytearray(blosc.compress(np.zeros(CHUNK, "f4"), b"zstd", 5, 1))
    blosc_one[4:8] = struct.pack("<I", 2**30)
    lz4_one = struct.pack("<I", 2**30) + lz4.compress(bytes(480_000))[4:]
    zipped = zlib.compressobj(9, zlib.DEFLATED, 31)
    return {
        "gzip": ({"id": "gzip", "level": 9}, _zeros(zipped)),
        "zlib": ({"id": "zlib", "level": 9}, _zeros(zlib.compressobj(9))),
        "bz2": ({"id": "bz2", "level": 9}, _zeros(bz2.BZ2Compressor())),
        "lzma": ({"id": "lzma", "format": 1}, _zeros(lzma.LZMACompressor(preset=0))),
        "lz4": ({"id": "lz4"}, lz4_one),
        "zstd": ({"id": "zstd", "level": 1}, zstd.compress(np.zeros(LARGE, "u1"), 1)),
        "blosc": ({"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 1}, bytes(blosc_one)),
    }


def image(image_format: str, side: int = 3000) -> bytes:
    """One colour, side × side pixels."""
    from PIL import Image

    if image_format == "JXL":
        import pillow_jxl  # noqa: F401
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, image_format, effort=1)
    return file.getvalue()


def write_v2(path: Path, compressor: dict | None, chunk: bytes, shape=CHUNK, dtype="<f4") -> None:
    """A dataset of one array in one chunk, four frames in one episode."""

    def array(name, shape, dtype, compressor, raw):
        (path / name).mkdir(parents=True)
        said = {"zarr_format": 2, "shape": shape, "chunks": shape, "dtype": dtype, "order": "C"}
        said |= {"compressor": compressor, "filters": None, "fill_value": 0}
        (path / name / ".zarray").write_text(json.dumps(said))
        (path / name / ".".join("0" * len(shape))).write_bytes(raw)

    path.mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    array("data/action", list(shape), dtype, compressor, chunk)
    array("meta/episode_ends", [1], "<i8", None, struct.pack("<q", shape[0]))


def zip_deflated(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))


def main() -> None:
    import google_crc32c  # noqa: F401
    import numcodecs  # noqa: F401
    import pillow_jxl  # noqa: F401

    from dipole.data import DataError, EpisodeStore

    paths = sorted(Path(sys.argv[1]).iterdir())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for path in paths:
        try:
            EpisodeStore.open(path)["action"][:]
            print(f"{path.name}: read")
        except DataError as error:
            print(f"{path.name}: {error}")


if __name__ == "__main__":
    main()

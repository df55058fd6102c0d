"""How one zarr array lies in its files: shape, dtype, grid of chunks, and shards around them.

Read from the metadata before zarr sees it, because metadata may be wrong or hostile: object arrays
and codecs that execute (pickle) are refused here, and so are sizes that no dataset has.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dipole.data.core.errors import DataError
from dipole.data.store.zarr.tree import Tree, read_metadata

LARGEST_CHUNK = 2**31  # bytes, uncompressed: the limit of Blosc itself
LARGEST_FRAME = 2**30
# Codecs that turn bytes into bytes or numbers into numbers. Absent: pickle, json2, vlen-*,
# msgpack2.
SAFE_CODECS = frozenset(
    {"blosc", "zstd", "gzip", "zlib", "bz2", "lzma", "lz4", "packbits", "sharding_indexed"}
    | {"bytes", "endian", "transpose", "delta", "shuffle", "bitround", "quantize"}
    | {"crc32c", "crc32", "adler32", "fletcher32", "fixedscaleoffset"}
    | {"dipole_jxl", "dipole_jpeg", "imagecodecs_jpegxl"}  # images, image_codec.py
)
SEPARATORS = (".", "/")
_V3_DTYPES = frozenset(
    {"bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64"}
)


@dataclass(frozen=True)
class ArrayLayout:
    """The stored form of one array, e.g. `data/action`.

    chunk: shape of the pieces that are compressed; shard: shape of the pieces that are files, equal
    to chunk where the array has no shards. index_bytes: size of a shard's index, 0 without shards.
    codecs: what a chunk went through, name and settings, in that order; index_checked: whether a
    crc32c ends a shard's index; c_order: whether the last axis varies fastest (version 2); fill:
    what stands for chunks that were never written, None where the metadata does not say.
    """

    name: str
    zarr_format: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    separator: str
    prefix: str
    index_at_end: bool = True
    index_bytes: int = 0
    index_checked: bool = False
    codecs: tuple[tuple[str, dict[str, Any]], ...] = ()
    c_order: bool = True
    fill: Any = None

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk, uncompressed."""
        return math.prod(self.chunk) * self.dtype.itemsize

    @property
    def most_stored_bytes(self) -> int:
        """Bytes that a stored chunk has at most: no codec makes more of incompressible numbers."""
        return 2 * self.chunk_bytes + 64 * 2**10

    @property
    def blosc(self) -> bool:
        """Whether a file is one Blosc frame and nothing else."""
        return self.zarr_format == 2 and [name for name, _ in self.codecs] == ["blosc"]

    @property
    def frame_bytes(self) -> int:
        """Bytes of one entry along the first axis, uncompressed."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def file(self, cell: tuple[int, ...]) -> str:
        """Name of the file that holds the shard at these coordinates of the grid."""
        if self.prefix:
            return f"{self.name}/{self.separator.join([self.prefix, *map(str, cell)])}"
        return f"{self.name}/{self.separator.join(map(str, cell))}"


def read_layout(files: Tree, name: str) -> ArrayLayout | None:
    """The layout of the array `name`, or None where there is no array.

    Raises DataError for metadata that is not valid, for object arrays and unsafe codecs, and for
    sizes that no dataset has.
    """
    for file, parse in ((f"{name}/zarr.json", _parse_v3), (f"{name}/.zarray", _parse_v2)):
        raw = read_metadata(files, file)
        if raw is None:
            continue
        where = f"{files.path}: {file}"
        try:
            metadata = json.loads(raw)
            if parse is _parse_v3 and metadata.get("node_type") == "group":
                return None
            layout = parse(name, metadata)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{where}: not valid zarr metadata ({error!r}). "
                "Restore it, or write the dataset again"
            ) from error
        _check_sizes(where, layout)
        return layout
    return None


def _parse_v2(name: str, metadata: dict[str, Any]) -> ArrayLayout:
    dtype = _numeric(metadata["dtype"])
    stored = [*(metadata.get("filters") or []), metadata.get("compressor")]
    codecs = tuple((str(codec["id"]), dict(codec)) for codec in stored if codec is not None)
    _check_codecs([name for name, _ in codecs])
    chunk = _sizes(metadata["chunks"], at_least=1)
    separator = _separator(metadata.get("dimension_separator", "."))
    shape = _sizes(metadata["shape"])
    c_order = metadata.get("order", "C") == "C"
    fill = _fill(metadata.get("fill_value"), dtype)
    return ArrayLayout(
        name,
        2,
        shape,
        dtype,
        chunk,
        chunk,
        separator,
        "",
        codecs=codecs,
        c_order=c_order,
        fill=fill,
    )


def _parse_v3(name: str, metadata: dict[str, Any]) -> ArrayLayout:
    data_type = metadata["data_type"]
    dtype = _numeric(data_type if isinstance(data_type, str) and data_type in _V3_DTYPES else "O")
    chunk = shard = _sizes(metadata["chunk_grid"]["configuration"]["chunk_shape"], at_least=1)
    encoding = metadata["chunk_key_encoding"]
    default = encoding["name"] == "default"
    said = encoding.get("configuration", {}).get("separator", "/" if default else ".")
    separator = _separator(said)
    codecs = metadata["codecs"]
    _check_codecs(_codec_names(codecs))
    index_bytes, at_end, checked = 0, True, False
    if any(codec["name"] == "sharding_indexed" for codec in codecs):
        if len(codecs) != 1:
            raise DataError("codecs around the shards are not supported: write the dataset again")
        sharding = codecs[0]["configuration"]
        chunk = _sizes(sharding["chunk_shape"], at_least=1)
        if any(s % c for s, c in zip(shard, chunk, strict=True)):
            raise DataError(f"shards of {list(shard)} do not hold whole chunks of {list(chunk)}")
        entries = math.prod(s // c for s, c in zip(shard, chunk, strict=True))
        checked = "crc32c" in _codec_names(sharding["index_codecs"])
        index_bytes = 16 * entries + (4 if checked else 0)
        at_end = sharding.get("index_location", "end") == "end"
        codecs = sharding["codecs"]
    shape = _sizes(metadata["shape"])
    prefix = "c" if default else ""
    chain = tuple((str(codec["name"]), dict(codec.get("configuration", {}))) for codec in codecs)
    return ArrayLayout(
        name,
        3,
        shape,
        dtype,
        chunk,
        shard,
        separator,
        prefix,
        at_end,
        index_bytes,
        checked,
        chain,
        fill=_fill(metadata.get("fill_value"), dtype),
    )


def _codec_names(codecs: list[dict[str, Any]]) -> list[str]:
    inner = [codec["configuration"]["codecs"] for codec in codecs if "sharding" in codec["name"]]
    return [str(codec["name"]) for codec in codecs] + [n for c in inner for n in _codec_names(c)]


def _check_codecs(names: list[str]) -> None:
    unsafe = sorted({name.removeprefix("numcodecs.") for name in names} - SAFE_CODECS)
    if unsafe:
        raise DataError(
            f"codec {unsafe[0]!r} is refused: only numbers are read, and reading never executes. "
            "Write the array again as plain numbers"
        )


def _numeric(name: object) -> np.dtype[Any]:
    dtype = np.dtype(name) if isinstance(name, str) else np.dtype("O")
    if dtype.kind not in "biuf":
        raise DataError(
            f"its entries are {dtype.name!r}, not numbers: objects, text and records are refused. "
            "Write the array again with a numeric dtype such as float32"
        )
    return dtype


def _separator(said: Any) -> str:
    """What stands between the numbers in a chunk's file name: nothing else makes a path of them."""
    if said not in SEPARATORS:
        raise DataError(f"separator {said!r}; chunks are named with '.' or '/'")
    return str(said)


def _fill(said: Any, dtype: np.dtype[Any]) -> Any:
    """The fill value as an entry of the array; None where there is none, or another sort of one."""
    if said is None:
        return None
    try:
        return np.array(float(said) if dtype.kind == "f" else said).astype(dtype, casting="unsafe")
    except (TypeError, ValueError, OverflowError):
        return None


def _sizes(values: list[Any], at_least: int = 0) -> tuple[int, ...]:
    if not all(type(value) is int and at_least <= value < 2**62 for value in values):
        raise ValueError(f"sizes {values}")
    return tuple(values)


def _check_sizes(where: str, layout: ArrayLayout) -> None:
    """Sizes that no dataset has, before anything is allocated for them."""
    if not layout.shape or {len(layout.chunk), len(layout.shard)} != {len(layout.shape)}:
        raise DataError(f"{where}: shape {list(layout.shape)} with chunks of {list(layout.chunk)}")
    chunk_bytes = layout.chunk_bytes
    if chunk_bytes >= LARGEST_CHUNK or layout.frame_bytes >= LARGEST_FRAME:
        raise DataError(
            f"{where}: shape {list(layout.shape)} in chunks of {list(layout.chunk)} means "
            f"{max(chunk_bytes, layout.frame_bytes) / 2**30:.3g} GiB at once. The metadata is "
            "wrong, or the dataset must be written again with chunks below 2 GiB"
        )

"""Entries of zip files that are not trusted."""

import zipfile
import zlib

# What zipfile raises for an entry that is damaged, or packed in a way that it does not know.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
_ENCRYPTED = 0x1


def check_member(entry: zipfile.ZipInfo) -> None:
    """Raise OSError for an entry that zipfile cannot read, or would decompress without a bound."""
    if entry.flag_bits & _ENCRYPTED:
        raise OSError(f"{entry.filename} is encrypted: unpack the zip with its password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise OSError(f"{entry.filename} is neither stored nor deflated: pack the zip anew")

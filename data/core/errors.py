"""Errors for the user: what is wrong, where, and what to do.

The command line prints their message without a traceback; everything else is a defect of ours.
"""


class DipoleError(Exception):
    """Something the user can mend; the message says what, where and how."""


class DataError(DipoleError):
    """A dataset that cannot be read, or may not be trusted; the message is one line."""

    def __init__(self, message: str = "") -> None:
        # It may quote another library, whose messages have several.
        super().__init__(" ".join(message.splitlines()) if "\n" in message else message)


class StorageError(DataError):
    """Object storage that refuses, or cannot be reached; what lies in it may be sound."""


class CheckpointError(DipoleError):
    """A checkpoint that is incomplete, damaged, or of another kind than asked for."""


class ConfigError(DipoleError, ValueError):
    """A setting or argument that cannot work, alone or beside the others."""

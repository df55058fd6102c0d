"""Errors that speak to a person: what is wrong, where, and what to do.

The command line prints their message without a traceback; everything else is a defect of ours.
"""


class DipoleError(Exception):
    """Something the user can mend; the message says what, where and how."""


class DataError(DipoleError):
    """A dataset that cannot be read, or may not be trusted."""


class CheckpointError(DipoleError):
    """A checkpoint that is incomplete, damaged, or of another kind than asked for."""


class ConfigError(DipoleError, ValueError):
    """A value that cannot work, alone or beside the others."""

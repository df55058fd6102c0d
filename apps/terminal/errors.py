"""The command line's own error: what was typed cannot be read."""


class UsageError(Exception):
    """A mistyped command, option, key or choice; `dipole` prints the message and exits with code 2.

    It is no DipoleError because importing that one costs seconds, and a typing mistake should
    be answered at once.
    """

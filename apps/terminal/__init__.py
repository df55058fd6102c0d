"""Options, errors and completion of the command line."""

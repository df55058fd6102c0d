"""The subcommands of `dipole`, a module each, imported when it is called."""

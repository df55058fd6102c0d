"""The episode store: reading and writing it."""

"""A simulator in an interpreter of its own: `environment.python` (docs/interpreter.md)."""

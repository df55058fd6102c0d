"""Robosuite's arms, in an interpreter of their own (docs/robosuite.md)."""

"""Recordings of runs."""

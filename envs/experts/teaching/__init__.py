"""Policies that act in a recording, and a teacher that labels it."""

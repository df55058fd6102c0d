"""Fetch: an arm on a table that reaches, pushes, slides, and picks and places."""

"""Convolutions over pictures on a CPU: torch's, and products where those are measured to win."""

"""Noise processes, solvers and guidance: from noise to a chunk."""

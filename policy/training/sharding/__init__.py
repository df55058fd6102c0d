"""Weights, gradients, averages and the optimiser's state divided among processes."""

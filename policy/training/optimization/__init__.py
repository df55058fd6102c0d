"""The optimisers, moving averages of weights, and the check that all of it is finite."""

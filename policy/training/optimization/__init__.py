"""Optimisers, averages, what several processes share of them, and checks that all is finite."""

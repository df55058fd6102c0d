"""Transforms of columns, each with its inverse: rotations, angles, ranges, units. numpy only."""

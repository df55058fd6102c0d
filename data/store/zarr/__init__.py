"""zarr arrays in their files: where chunks lie, and how they are decoded."""

"""How datasets lie on the disk: files, zarr metadata, chunks."""

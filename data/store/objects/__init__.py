"""Datasets in object storage: S3, Google Cloud Storage, Azure, and files behind a web server."""

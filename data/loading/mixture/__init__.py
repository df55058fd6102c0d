"""Several datasets in one training."""

"""What is in a dataset, and whether it can be trusted."""

"""Windows, features, and the batches that training sees."""

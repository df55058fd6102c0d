"""Other people's datasets, each read as a source."""

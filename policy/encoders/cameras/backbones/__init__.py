"""Networks that encode a picture, by name."""

"""Text encoders: instructions as tokens and a vector, trained from scratch."""

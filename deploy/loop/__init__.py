"""The control loop and how it is run."""

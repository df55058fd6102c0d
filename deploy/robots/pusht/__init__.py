"""Push-T as a robot."""

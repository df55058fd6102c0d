"""What a run leaves in its folder and shows on the terminal."""

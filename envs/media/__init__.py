"""Videos and pictures of episodes."""

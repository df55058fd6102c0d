"""Push-T: the simulator, its scene and its expert."""

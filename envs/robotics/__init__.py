"""What gymnasium-robotics' environments have in common, and two families: adroit, kitchen."""

"""What client and policy server say to each other."""

"""The policy server."""

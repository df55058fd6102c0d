"""The two aspects of quality: fidelity and diversity of a policy's chunks (docs/evaluation.md)."""

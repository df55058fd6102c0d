"""Evaluation through the control loop."""

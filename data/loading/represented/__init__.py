"""Features that are relative to an observed pose: what they need, and how windows hold them."""

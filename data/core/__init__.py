"""What everything else stands on: errors, registries, units, memory."""

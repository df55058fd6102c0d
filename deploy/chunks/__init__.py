"""From chunks of actions to the next action."""

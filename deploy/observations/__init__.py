"""From sensor readings to what the policy is shown."""

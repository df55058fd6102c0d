"""What stands between a policy and the robot: limits, filter, supervision."""

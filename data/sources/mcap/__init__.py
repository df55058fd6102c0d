"""MCAP recordings of ROS 2."""

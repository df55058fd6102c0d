"""PointMaze: a ball that is driven through a maze to a goal (gymnasium-robotics)."""

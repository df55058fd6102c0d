"""From chunks to actions, row by row: observation history, action queue, receding horizon."""

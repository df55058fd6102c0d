"""Fork: a point robot goes round a disc to a goal behind it, left or right."""

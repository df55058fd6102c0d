"""Episodes over the machines of a Ray cluster, behind the same protocol as local workers."""

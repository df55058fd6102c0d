"""What `dipole bench` measures: the plain way, ours, and what the machine can do at most."""

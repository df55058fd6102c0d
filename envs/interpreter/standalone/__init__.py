"""Files that run in the simulator's interpreter, without dipole: `server.py` reads the others."""

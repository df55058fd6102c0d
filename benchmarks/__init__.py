"""What takes how long: the figures of `dipole bench`, in figures/, and scripts of one measurement.

A script is run by its path, `python benchmarks/loader.py`; each says at its beginning how.
"""

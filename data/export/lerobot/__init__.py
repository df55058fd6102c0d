"""Any source as a LeRobot v3.0 dataset.

export      the whole dataset, resumable and read back
episode     an episode's row in meta/episodes, and its frames
features    what keys are called there, and info.json's description of them
tables      columns and their types; tasks
videos      packets of an episode in a file of their own
statistics  of episodes and of all
meta        the files of meta/
files       where files lie
compare     what was written, beside its source
"""

from dipole.data.export.lerobot.export import export_lerobot

__all__ = ["export_lerobot"]

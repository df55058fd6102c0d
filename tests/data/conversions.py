"""Conversions of small LeRobot datasets, and what is left where one ends."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dipole.data import EpisodeStore
from dipole.data.convert import convert
from dipole.data.inspection.validate import validate
from dipole.data.sources.combine.selected import selected
from dipole.data.sources.registry import open_source

sys.path.insert(0, str(Path(__file__).parent))
import lerobot_corpus as corpus

no_jxl = pytest.mark.skipif(find_spec("pillow_jxl") is None, reason="pip install dipole[formats]")
JXL = pytest.param("jxl", marks=no_jxl)
LENGTHS = [7, 5, 9]
CAMERA = corpus.CAMERA


def converted(source, path, images="keep", **selection):
    convert(selected(open_source(source), **selection), path, images)
    assert validate(path).ok
    return EpisodeStore.open(path)


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


def damage_picture(source):
    path = source / "data/chunk-000/episode_000001.parquet"
    rows = pq.read_table(path)
    pictures = rows[CAMERA].to_pylist()
    pictures[3]["bytes"] = pictures[3]["bytes"][:40]
    column = pa.array(pictures, rows[CAMERA].type)
    pq.write_table(rows.set_column(rows.column_names.index(CAMERA), CAMERA, column), path)

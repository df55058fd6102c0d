"""JSON files of other people's datasets: an object, or an object a line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dipole.data.core.errors import DataError


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises DataError where it holds none."""
    try:
        values = json.loads(path.read_text())
        if isinstance(values, dict):
            return values
        raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}). Copy the dataset again") from error


def read_json_lines(path: Path) -> list[Mapping[str, Any]]:
    """One JSON object a line; raises DataError, naming the line, where there is none."""
    rows = []
    try:
        with open(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_object(path, number, line))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Copy the dataset again") from error
    return rows


def json_object(text: Any) -> dict[str, Any]:
    """The JSON object in a text, or {} where it holds none."""
    try:
        values = json.loads(text) if isinstance(text, str | bytes) else {}
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _object(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: not a JSON object")
    return row

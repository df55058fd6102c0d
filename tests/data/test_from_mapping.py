"""Configurations out of plain mappings: the unknown, the missing and the mistyped are named."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping


@dataclass(frozen=True)
class Inner:
    """power: of something."""

    power: float = 0.75


@dataclass(frozen=True)
class Settings:
    """One of each type."""

    steps: int
    rate: float = 1.0
    name: str = ""
    on: bool = False
    threads: int | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    names: tuple[str, ...] = ()
    mode: Literal["a", "b"] = "a"
    path: Path | None = None
    ema: Inner = field(default_factory=Inner)
    options: Mapping[str, Any] = field(default_factory=dict)


def test_values_of_their_types_are_taken_and_lists_become_tuples():
    values = {
        "steps": 3,
        "rate": 2,
        "on": True,
        "threads": None,
        "betas": [0.5, 1],
        "names": ["x"],
        "mode": "b",
        "path": "a/b",
        "ema": {"power": 1.0},
        "options": {"anything": [1]},
    }
    settings = from_mapping(Settings, values, "train")
    assert (settings.betas, settings.names, settings.ema) == ((0.5, 1), ("x",), Inner(1.0))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"step": 1}, "there is no train.step, did you mean 'steps'?"),
        ({}, "train.steps is missing: give it a value"),
        ({"steps": "many"}, "train.steps is 'many': a whole number is needed"),
        ({"steps": True}, "train.steps is True: a whole number is needed"),
        ({"steps": 1.5}, "train.steps is 1.5: a whole number is needed"),
        ({"steps": 1, "rate": "1e-3x"}, "train.rate is '1e-3x': a number is needed"),
        ({"steps": 1, "threads": "2"}, "train.threads is '2': a whole number or null is needed"),
        ({"steps": 1, "on": "yes"}, "train.on is 'yes': true or false is needed"),
        ({"steps": 1, "name": 3}, "train.name is 3: a text is needed"),
        ({"steps": 1, "betas": [0.5]}, "train.betas is [0.5]: a list of 2 numbers is needed"),
        ({"steps": 1, "names": "x"}, "train.names is 'x': a list of texts is needed"),
        ({"steps": 1, "mode": "c"}, "train.mode is 'c': 'a' or 'b' is needed"),
        ({"steps": 1, "ema": {"powr": 1}}, "there is no train.ema.powr, did you mean 'power'?"),
        ({"steps": 1, "ema": 3}, "train.ema is 3: settings by name are needed"),
        ({"steps": 1, "options": []}, "train.options is []: settings by name is needed"),
        ([1], "train is [1]: settings by name are needed"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(values, said):
    with pytest.raises(ConfigError) as caught:
        from_mapping(Settings, values, "train")
    assert str(caught.value) == said


def test_functions_with_named_parameters_are_called():
    def split(ratio: float = 0.5, seed: int = 1) -> tuple[float, int]:
        return ratio, seed

    assert from_mapping(split, {"seed": 3}, "task.split") == (0.5, 3)
    with pytest.raises(ConfigError, match=r"there is no task\.split\.seeed, did you mean 'seed'"):
        from_mapping(split, {"seeed": 3}, "task.split")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(["steps", "rate", "betas", "ema", "names", "threads", "mode", "xyz"])


@given(values=st.dictionaries(KEYS, PLAIN) | PLAIN)
def test_any_plain_value_is_taken_or_refused_in_words(values):
    with contextlib.suppress(ConfigError):
        settings = from_mapping(Settings, values, "train")
        assert type(settings.steps) is int
        assert type(settings.betas) is tuple

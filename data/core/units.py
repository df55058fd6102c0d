"""Units of numbers: how they are written, and when two spellings mean the same one."""

from collections.abc import Iterable, Sequence
from typing import Any

# One unit for all numbers of an array, or one for each entry of its last axis; "" is unknown.
Units = str | tuple[str, ...]

# The symbol, and other spellings of the same unit in any case.
_SPELLINGS = {
    "rad": ("radian", "radians", "rads"),
    "deg": ("degree", "degrees", "degs", "°"),
    "m": ("meter", "meters", "metre", "metres"),
    "mm": ("millimeter", "millimeters", "millimetre", "millimetres"),
    "cm": ("centimeter", "centimeters", "centimetre", "centimetres"),
    "px": ("pixel", "pixels", "pix"),
    "s": ("sec", "second", "seconds"),
    "%": ("percent", "per cent"),
    "N": ("newton", "newtons"),
    "Nm": ("n·m", "n*m", "newton meter", "newton metre", "newton meters", "newton metres"),
}
_SYMBOLS = {word: symbol for symbol, words in _SPELLINGS.items() for word in words}
_PER_SECOND = ("/s", "/sec", "/second", " per second", "ps")


def canonical(unit: str) -> str:
    """The symbol of a unit: "degrees" is "deg", "radians per second" is "rad/s"; others unchanged.

    >>> [canonical(unit) for unit in ("Radians", "meters/sec", "furlongs", "")]
    ['rad', 'm/s', 'furlongs', '']
    """
    text = unit.strip()
    for ending in _PER_SECOND:
        base = text.removesuffix(ending)
        if base != text and _symbol(base) in _SPELLINGS:
            return f"{_symbol(base)}/s"
    return _symbol(text)


def _symbol(text: str) -> str:
    folded = text.casefold()
    if folded in _SYMBOLS:
        return _SYMBOLS[folded]
    # Symbols keep their case (N is no n), except those that nobody writes in capitals for another.
    return folded if folded in ("rad", "deg", "px") else text


def units_in(text: Any) -> tuple[str, ...]:
    """The units that a text lists without commas, as nobody reads them; () for anything else.

    >>> units_in("rad rad m"), units_in("newton meters"), units_in("radians per second")
    (('rad', 'rad', 'm'), (), ())
    """
    words = tuple(text.replace(";", " ").split()) if isinstance(text, str) else ()
    one = len(words) < 2 or canonical(text) in _SPELLINGS
    return words if not one and all(_is_known(word) for word in words) else ()


def unit_problem(unit: Any) -> str:
    """What is wrong with units as a robot declares them, "rad" or "rad, rad, m"; or ""."""
    if not isinstance(unit, str):
        return f"unit is {unit!r}: a text is needed, as 'rad', or 'rad, rad, m' with one for each"
    for each in unit.split(","):
        if words := units_in(each):
            return f"unit is {unit!r}: several units have commas between them, {', '.join(words)!r}"
    return ""


def _is_known(unit: str) -> bool:
    return canonical(unit).removesuffix("/s") in _SPELLINGS


def read_units(units: Any) -> Units:
    """Units as they are declared: a text, or a list with one for each number.

    Raises ValueError for anything else.
    """
    if units is None or isinstance(units, str):
        return units or ""
    if not isinstance(units, Sequence) or not all(isinstance(unit, str) for unit in units):
        raise ValueError(f"units {units!r}: one text, or a list with one for each number")
    return tuple(units) if any(units) else ""


def each_unit(units: Units, size: int) -> tuple[str, ...]:
    """The unit of each of `size` numbers."""
    return (units,) * size if isinstance(units, str) else tuple(units)


def same_units(one: Units, other: Units, size: int) -> bool:
    """Whether `size` numbers have the same units, as far as both sides are known."""
    pairs = zip(each_unit(one, size), each_unit(other, size), strict=True)
    return all(not a or not b or canonical(a) == canonical(b) for a, b in pairs)


def units_text(units: Units | Iterable[str]) -> str:
    """For a person: "rad", or "rad, rad, m" where numbers differ."""
    listed = [units] if isinstance(units, str) else list(units)
    return ", ".join(unit or "?" for unit in listed) if len(set(listed)) > 1 else listed[0]

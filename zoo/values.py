"""Read and write the values of flags, variants and settings: numbers, true, false, null, texts.

Every flag, variant and file goes through here, so that a number is read the same way everywhere:
in decimal digits 0 to 9, whole numbers of at most 15 digits, and finite.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from inspect import signature
from math import isfinite
from numbers import Integral, Real
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

DIGITS = 15  # most of a whole number; every reader of JSON keeps so many exactly
LARGEST = 10**DIGITS - 1
LARGEST_FLOAT = 1e30  # of a setting: networks and optimisers compute in float32, which ends at 3e38
MOST_PARALLEL = max(os.cpu_count() or 1, 64)  # processes, or threads of one
SHOWN_CHARACTERS = 60  # of a value in a message
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CONSTANTS = {"true": True, "false": False, "null": None}
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = SHOWN_CHARACTERS
_TYPE_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def shown(value: Any) -> str:
    """A value as messages show it: on one line, texts in quotes, long values shortened."""
    if isinstance(value, int) and abs(value) > 10**SHOWN_CHARACTERS:
        return f"a number of more than {SHOWN_CHARACTERS} digits"
    return _SHORT.repr(value)


def whole_in_words(least: int = -LARGEST, most: int = LARGEST) -> str:
    """Which whole numbers are allowed, in words: ``a whole number from 1 to 64``."""
    if most < LARGEST:
        return f"a whole number from {least} to {most}"
    return "a whole number" + (f" of at least {least}" if least > -LARGEST else "")


def checked_whole(value: int, least: int = -LARGEST, most: int = LARGEST) -> int:
    """Return `value` if it lies within the bounds.

    Raises:
        ValueError: it does not; says what was expected.
    """
    if abs(value) > LARGEST:
        raise ValueError(
            f"expected {whole_in_words(least, most)}; whole numbers have at most {DIGITS} digits"
        )
    if not least <= value <= most:
        raise ValueError(f"expected {whole_in_words(least, most)}")
    return value


def parse_whole(text: str, least: int = -LARGEST, most: int = LARGEST) -> int:
    """Read a whole number in decimal digits.

    Raises:
        ValueError: the text is no such number, or it is out of bounds; says what was expected.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"expected {whole_in_words(least, most)}")
    digits = text.lstrip("+-").lstrip("0") or "0"
    size = int(digits) if len(digits) <= DIGITS else LARGEST + 1  # int() reads 4,300 digits at most
    return checked_whole(-size if text[0] == "-" else size, least, most)


def parse_number(text: str) -> float:
    """Read a number in decimal digits, with or without an exponent.

    Raises:
        ValueError: the text is no such number, or it is too large for a float.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("expected a number, such as 0.01 or 1e-3")
    return _finite_float(float(text))


def parse_value(text: str) -> Any:
    """Read a value: a number, true, false or null, other JSON, or else the text itself.

    Raises:
        ValueError: a whole number of too many digits, or a number that is not finite.
    """
    if _WHOLE.fullmatch(text):
        return parse_whole(text)
    if _NUMBER.fullmatch(text):
        return parse_number(text)
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        return json.loads(
            text, parse_int=parse_whole, parse_float=parse_number, parse_constant=parse_number
        )
    except (json.JSONDecodeError, RecursionError):
        return text


def check_numbers(value: Any) -> None:
    """Refuse numbers that a record cannot hold, also inside lists and dictionaries.

    Raises:
        ValueError: a number is too large, or not finite.
    """
    if isinstance(value, Mapping):
        for item in value.values():
            check_numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_numbers(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        checked_whole(value)
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError("expected finite numbers")


def typed_value(value: Any, annotation: Any) -> Any:
    """Convert a value to the type of its setting.

    Equal values become the same value: 84.0 becomes 84 for an int, 1 becomes 1.0 for a float, and
    the words of a text are separated by single spaces.

    Args:
        value: as it was given; texts that stand for numbers were read by `parse_value`.
        annotation: of the setting: bool, int, float, str, or a union of these and None. A value of
            any other type is returned as it is.

    Raises:
        ValueError: the value is of another type; says what was expected.
    """
    types = plain_types(annotation)
    if not types:
        check_numbers(value)
        return value
    if value is None and NoneType in types:
        return None
    if isinstance(value, bool) and bool in types:
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        number: Any = value
        if int in types and (isinstance(value, Integral) or float(number).is_integer()):
            return checked_whole(int(number))
        if float in types:
            number = _finite_float(number)
            if abs(number) > LARGEST_FLOAT:
                raise ValueError(f"expected a number of at most {LARGEST_FLOAT:g}")
            return number
    if str in types and isinstance(value, str | bool | Real):
        return " ".join(value.split()) if isinstance(value, str) else format_value(value)
    expected = " or ".join([words for each, words in _TYPE_WORDS.items() if each in types])
    raise ValueError(f"expected {expected}" + (" or null" if NoneType in types else ""))


def same_value(value: Any, other: Any) -> bool:
    """Whether a value equals another once it has its type: 84.0 equals 84, but true is not 1."""
    try:
        return bool(typed_value(value, type(other)) == other)
    except ValueError:
        return False


def _finite_float(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        number = float("inf")
    if not isfinite(number):
        raise ValueError("expected a finite number")
    return number + 0.0  # turns -0.0 into 0.0


def plain_types(annotation: Any) -> set[type]:
    """The members of an annotation if all are bool, int, float, str or None; else the empty set."""
    is_union = get_origin(annotation) in (Union, UnionType)
    members = {*get_args(annotation)} if is_union else {annotation}
    return members if members <= {bool, int, float, str, NoneType} else set()


def option_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each parameter that has a default; Any where there is none."""
    try:
        parameters = signature(function, eval_str=True).parameters
    except NameError:  # a type that is imported for type checkers alone
        parameters = signature(function).parameters
    return {
        name: Any if isinstance(p.annotation, str) or p.annotation is p.empty else p.annotation
        for name, p in parameters.items()
        if p.default is not p.empty
    }


def format_value(value: Any) -> str:
    """A setting's value as it is written in variants, tables and published.csv."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)

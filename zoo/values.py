"""Values as people write them: numbers, truth values, texts and null, in one form each.

What a flag, a variant or a file gives is read here, so that a number is the same number wherever it
is written: decimal digits 0 to 9, no more than a record can hold, and finite.
"""

import json
import re
from collections.abc import Callable, Mapping
from inspect import signature
from math import isfinite
from numbers import Integral, Real
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

DIGITS = 15  # of a whole number: as many as every reader of JSON keeps
LARGEST = 10**DIGITS - 1
SHOWN_CHARACTERS = 60  # of what was given, in a message
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CONSTANTS = {"true": True, "false": False, "null": None}
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = SHOWN_CHARACTERS
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def shown(value: Any) -> str:
    """A value for a message: in quotes if it is a text, shortened if it is long, in one line."""
    if isinstance(value, int) and abs(value) > 10**SHOWN_CHARACTERS:
        return f"a number of more than {SHOWN_CHARACTERS} digits"
    return _SHORT.repr(value)


def whole_in_words(least: int = -LARGEST, most: int = LARGEST) -> str:
    """What is expected: ``a whole number from 1 to 64``."""
    if most < LARGEST:
        return f"a whole number from {least} to {most}"
    return "a whole number" + (f" of at least {least}" if least > -LARGEST else "")


def checked_whole(value: int, least: int = -LARGEST, most: int = LARGEST) -> int:
    """A whole number within its bounds.

    Raises:
        ValueError: it is not; says what was expected.
    """
    if abs(value) > LARGEST:
        raise ValueError(
            f"expected {whole_in_words(least, most)}; whole numbers have at most {DIGITS} digits"
        )
    if not least <= value <= most:
        raise ValueError(f"expected {whole_in_words(least, most)}")
    return value


def parse_whole(text: str, least: int = -LARGEST, most: int = LARGEST) -> int:
    """A whole number as it is written in decimal digits.

    Raises:
        ValueError: it is none, or out of its bounds; says what was expected.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"expected {whole_in_words(least, most)}")
    sign, digits = text[0], text.lstrip("+-").lstrip("0") or "0"
    value = int(digits) if len(digits) <= DIGITS else LARGEST + 1  # Python reads 4,300 at most
    return checked_whole(-value if sign == "-" else value, least, most)


def parse_number(text: str) -> float:
    """A number as it is written in decimal digits.

    Raises:
        ValueError: it is none, or not finite.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("expected a number, such as 0.01 or 1e-3")
    return _finite(float(text))


def parse_value(text: str) -> Any:
    """What a text stands for: a number, true, false, null, other JSON, or else the text itself.

    Raises:
        ValueError: a number that is too long, or not finite.
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


def checked_inside(value: Any) -> Any:
    """A value whose numbers, also those inside of lists, can stand in a record.

    Raises:
        ValueError: one is too large, or not finite.
    """
    if isinstance(value, Mapping):
        for part in value.values():
            checked_inside(part)
    elif isinstance(value, list | tuple):
        for part in value:
            checked_inside(part)
    elif isinstance(value, int) and not isinstance(value, bool):
        checked_whole(value)
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError("expected finite numbers")
    return value


def typed_value(value: Any, kind: Any) -> Any:
    """A value in the one form that its type has: 84.0 of a whole number is 84, 1 of a float 1.0.

    A text has single spaces, and none at its ends.

    Args:
        value: as it was given, read by `parse_value` if it was a text.
        kind: bool, int, float or str, or one of these or None. Of another type the value stays as
            it is.

    Raises:
        ValueError: it is of another type; says what was expected.
    """
    kinds = kinds_of(kind)
    if not kinds:
        return checked_inside(value)
    if value is None and NoneType in kinds:
        return None
    if isinstance(value, bool) and bool in kinds:
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        number: Any = value
        if int in kinds and (isinstance(value, Integral) or float(number).is_integer()):
            return checked_whole(int(number))
        if float in kinds:
            return _finite(number)
    if str in kinds and isinstance(value, str | bool | Real):
        return " ".join(value.split()) if isinstance(value, str) else format_value(value)
    expected = " or ".join([words for each, words in _WORDS.items() if each in kinds])
    raise ValueError(f"expected {expected}" + (" or null" if NoneType in kinds else ""))


def same_value(value: Any, known: Any) -> bool:
    """Whether a value that was given means a known one, as 84.0 does 84 and true does not 1."""
    try:
        return bool(typed_value(value, type(known)) == known)
    except ValueError:
        return False


def _finite(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise ValueError("expected a finite number")
    return number + 0.0  # -0.0 is 0.0


def kinds_of(kind: Any) -> set[type]:
    """The plain types that an annotation is made of; none where it has others too."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return {*parts} if {*parts} <= {bool, int, float, str, NoneType} else set()


def option_types(thing: Callable[..., Any]) -> dict[str, Any]:
    """The type of each parameter that has a default; Any where none is named."""
    try:
        parameters = signature(thing, eval_str=True).parameters
    except NameError:  # one is imported for type checkers alone
        parameters = signature(thing).parameters
    return {
        name: Any if isinstance(p.annotation, str) or p.annotation is p.empty else p.annotation
        for name, p in parameters.items()
        if p.default is not p.empty
    }


def format_value(value: Any) -> str:
    """A setting's value as it is written in variants, tables and published.csv."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)

"""Typed fields: values and texts made to fit the type that a dataclass declares.

`configuration` builds `HParams` on it. Types: bool, int, float, str, tuples of these
(fixed or open, nested), and `X | None`. Imports no TensorFlow.
"""

import dataclasses
import functools
import inspect
import math
import os
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

_SIMPLE = (bool, int, float, str, type(None))


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """Makes a documented, range-checked dataclass field.

    Args:
      default: its value where a set says nothing.
      doc: what it means, with its unit.
      low, high: the bounds, both allowed values themselves; of a tuple, of each part.
      below: in place of `high`, a bound that is no allowed value itself.
      choices: the only allowed values.
    """
    bounds = {"low": low, "high": high, "below": below}
    metadata = {"doc": doc, "choices": choices} | bounds
    return dataclasses.field(default=default, metadata=metadata)


def typed(function: Callable) -> Callable:
    """Makes a function check the types of what it is called with, by its annotations.

    For functions that users call, from Python or through gin, which checks none. An
    int may be a float, a path a str, a number of numpy one of Python; annotations that
    `fit_type` does not know are not checked.

    Raises:
      TypeError: if an argument is of another type; names it.
    """
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function)
    simple = {name: hint for name, hint in hints.items() if _is_simple(hint)}

    @functools.wraps(function)
    def checked(*positional: Any, **named: Any) -> Any:
        bound = signature.bind(*positional, **named)
        for name in bound.arguments.keys() & simple.keys():
            value = bound.arguments[name]
            if isinstance(value, os.PathLike):
                value = os.fspath(value)
            elif isinstance(value, np.generic):
                value = value.item()
            try:
                bound.arguments[name] = fit_type(value, simple[name])
            except TypeError as error:
                raise TypeError(
                    f"{name} came as {error} in {function.__name__}(). Write a value "
                    "of that type."
                ) from None
        return function(*bound.args, **bound.kwargs)

    # gin looks here for names and defaults, and not at what is wrapped.
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def _is_simple(hint: Any) -> bool:
    return all(part in _SIMPLE for part in typing.get_args(hint) or (hint,))


def fit_type(value: Any, expected: Any) -> Any:
    """Gives the value as the expected type: an int may be a float, a list a tuple.

    Raises:
      TypeError: if it is of another type; no text is parsed, no bool becomes an int.

    Example:
      >>> fit_type([3, 1], tuple[int, ...]), fit_type(2, float)
      ((3, 1), 2.0)
    """
    if _is_union(expected):
        for option in typing.get_args(expected):
            if _fits(value, option):
                return fit_type(value, option)
    elif typing.get_origin(expected) is tuple:
        if isinstance(value, list | tuple):
            inner = _part_types(expected, len(value))
            if len(inner) == len(value):
                return tuple(map(fit_type, value, inner))
    elif expected is float and type(value) is int:
        return float(value)
    elif type(value) is expected or (expected is type(None) and value is None):
        return value
    raise TypeError(f"{value!r} ({type(value).__name__}); expected {name_of(expected)}")


def read_text(text: str, expected: Any) -> Any:
    """Reads a value of the expected type from a command line.

    Raises:
      ValueError: if the text does not say such a value.

    Example:
      >>> read_text("((3,1),(7,1))", tuple[tuple[int, int], ...])
      ((3, 1), (7, 1))
      >>> read_text("yes", bool), read_text("none", float | None)
      (True, None)
    """
    text = text.strip()
    if _is_union(expected):
        for option in typing.get_args(expected):
            try:
                return read_text(text, option)
            except ValueError:
                continue
    elif typing.get_origin(expected) is tuple:
        if text[:1] + text[-1:] in ("()", "[]"):
            text = text[1:-1]
        parts = split_outside_brackets(text)
        inner = _part_types(expected, len(parts))
        if len(inner) == len(parts):
            return tuple(map(read_text, parts, inner))
    elif expected is bool and text.lower() in ("true", "1", "yes"):
        return True
    elif expected is bool and text.lower() in ("false", "0", "no"):
        return False
    elif expected is type(None) and text.lower() == "none":
        return None
    elif expected is str:
        is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if is_quoted else text
    elif expected in (int, float):
        return expected(text)
    raise ValueError(f"{text!r}; expected {name_of(expected)}")


def split_outside_brackets(text: str) -> list[str]:
    """Splits at the commas that stand in no bracket; drops empty parts.

    Raises:
      ValueError: if brackets do not match.

    Example:
      >>> split_outside_brackets("a=1,b=(2,(3,4)),")
      ['a=1', 'b=(2,(3,4))']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise ValueError(
            f"{text!r} came; expected as many opening as closing brackets. Add or "
            "remove one."
        )
    return [part.strip() for part in parts if part.strip()]


def fit_fields(settings: Any) -> None:
    """Fits and checks every field of a frozen dataclass of settings; for its making.

    Call it from `__post_init__`.

    Raises:
      TypeError: if a value has another type than its field.
      ValueError: if a value is out of its range.
    """
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        given, expected = getattr(settings, field.name), hints[field.name]
        try:
            value = fit_type(given, expected)
        except TypeError:
            kind = type(given).__name__
            raise TypeError(
                f"hparam '{field.name}' came as {given!r} ({kind}); expected "
                f"{name_of(expected)}: {field.metadata.get('doc', '')}. "
                "Write a value of that type."
            ) from None
        check_range(field, value)
        object.__setattr__(settings, field.name, value)


def check_range(field: dataclasses.Field, value: Any) -> None:
    """Refuses a value outside the bounds or choices of a `setting`.

    Raises:
      ValueError: says the value, what is allowed and what the field means.
    """
    low, high, below = map(field.metadata.get, ("low", "high", "below"))
    choices = field.metadata.get("choices") or ()
    if choices:
        allowed = f"one of {', '.join(map(str, choices))}"
    elif below is not None:
        allowed = f"below {below}" if low is None else f"{low} to less than {below}"
    elif low is None and high is None:
        allowed = "a finite number"
    elif high is None:
        allowed = f"{low} or more"
    else:
        allowed = f"at most {high}" if low is None else f"{low} to {high}"
    for part in _leaves(value):
        is_number = isinstance(part, int | float)
        if (
            (choices and part not in choices)
            or (is_number and not math.isfinite(part))
            or (is_number and low is not None and part < low)
            or (is_number and high is not None and part > high)
            or (is_number and below is not None and part >= below)
        ):
            raise ValueError(
                f"hparam '{field.name}' is {value!r}; expected {allowed}: "
                f"{field.metadata.get('doc', '')}. Choose a value in range."
            )


def name_of(expected: Any) -> str:
    """Gives a type as one writes it: "int", "tuple[int, ...]", "float | None"."""
    if isinstance(expected, type) and not typing.get_args(expected):
        return expected.__name__
    return str(expected)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in _leaves(part)]
    return [] if value is None else [value]


def _fits(value: Any, expected: Any) -> bool:
    try:
        fit_type(value, expected)
    except TypeError:
        return False
    return True


def _is_union(expected: Any) -> bool:
    return typing.get_origin(expected) in (typing.Union, types.UnionType)


def _part_types(expected: Any, length: int) -> tuple[Any, ...]:
    inner = typing.get_args(expected)
    return inner[:1] * length if inner[-1] is Ellipsis else inner

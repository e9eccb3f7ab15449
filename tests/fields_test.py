"""Values and texts fit the declared types or are refused."""

import dataclasses
import pathlib

import gin
import numpy as np
import pytest

from t2t_mm.fields import (
    check_range,
    fit_type,
    name_of,
    read_text,
    setting,
    split_outside_brackets,
    typed,
)

KERNELS = tuple[tuple[int, int], ...]


@pytest.mark.parametrize(
    ("value", "expected", "fitted"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (True, bool, True),
        ("log_mel", str, "log_mel"),
        ([3, 5], tuple[int, ...], (3, 5)),
        ((), tuple[int, ...], ()),
        ([1, 0.5], tuple[float, ...], (1.0, 0.5)),
        ([[3, 1], [7, 1]], KERNELS, ((3, 1), (7, 1))),
        ((2, "a"), tuple[int, str], (2, "a")),
        (None, int | None, None),
        (7, float | None, 7.0),
    ],
)
def test_a_value_that_fits_comes_back_as_its_type(value, expected, fitted):
    result = fit_type(value, expected)
    assert result == fitted and type(result) is type(fitted)
    assert repr(result) == repr(fitted)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3.0, int),
        (True, int),
        (1, bool),
        (True, float),
        ("3", int),
        (3, str),
        (None, int),
        ("log_mel", tuple[str, ...]),
        (3, tuple[int, ...]),
        ((1, True), tuple[int, ...]),
        (((3, 1), 7), KERNELS),
        (((3, 1, 2),), KERNELS),
        ((2,), tuple[int, str]),
        ("a", int | None),
    ],
)
def test_a_value_of_another_type_is_refused(value, expected):
    with pytest.raises(TypeError, match="; expected "):
        fit_type(value, expected)


@pytest.mark.parametrize(
    ("text", "expected", "value"),
    [
        ("64", int, 64),
        (" -1 ", int, -1),
        ("1e-3", float, 0.001),
        ("2", float, 2.0),
        ("yes", bool, True),
        ("False", bool, False),
        ("0", bool, False),
        ("log_mel", str, "log_mel"),
        ("'a b'", str, "a b"),
        ("(3,5)", tuple[int, ...], (3, 5)),
        ("[3]", tuple[int, ...], (3,)),
        ("3", tuple[int, ...], (3,)),
        ("()", tuple[int, ...], ()),
        ("((3,1),(7,1))", KERNELS, ((3, 1), (7, 1))),
        ("none", int | None, None),
        ("5", int | None, 5),
    ],
)
def test_a_text_is_read_as_its_type(text, expected, value):
    result = read_text(text, expected)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64.0", int),
        ("a", float),
        ("maybe", bool),
        ("2", bool),
        ("(3,a)", tuple[int, ...]),
        ("(3", tuple[int, ...]),
        ("(1,2,3)", tuple[int, int]),
        ("some", int | None),
        ("", int),
    ],
)
def test_a_text_that_is_no_such_value_is_refused(text, expected):
    with pytest.raises(ValueError):
        read_text(text, expected)


def test_commas_in_brackets_do_not_split():
    assert split_outside_brackets("a=((1,2),(3,4)),b=[5,6], c=7") == [
        "a=((1,2),(3,4))",
        "b=[5,6]",
        "c=7",
    ]
    assert split_outside_brackets("") == []


@pytest.mark.parametrize("text", ["a=(1,2", "a=1),b=2", ")("])
def test_brackets_that_do_not_match_are_refused(text):
    with pytest.raises(ValueError, match="brackets"):
        split_outside_brackets(text)


@dataclasses.dataclass
class Sizes:
    """Fields with every kind of bound."""

    share: float = setting(0.5, "a share", low=0, high=1)
    count: int = setting(3, "how many", low=1)
    sizes: tuple[int, ...] = setting((3,), "sizes", low=1)
    form: str = setting("round", "its form", choices=("round", "square"))
    free: float = setting(0.0, "anything")
    limit: int | None = setting(None, "a bound", low=1)


FIELDS = {field.name: field for field in dataclasses.fields(Sizes)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("share", 0), ("share", 1), ("count", 1), ("sizes", ()), ("limit", None)],
)
def test_bounds_are_allowed_values(name, value):
    check_range(FIELDS[name], value)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("share", 1.5, "0 to 1"),
        ("share", float("nan"), "0 to 1"),
        ("count", 0, "1 or more"),
        ("sizes", (3, 0), "1 or more"),
        ("form", "oval", "one of round, square"),
        ("free", float("inf"), "a finite number"),
        ("limit", 0, "1 or more"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(name, value, allowed):
    with pytest.raises(
        ValueError, match=f"hparam '{name}' is .*; expected {allowed}: "
    ):
        check_range(FIELDS[name], value)


def test_types_are_named_as_one_writes_them():
    assert name_of(int) == "int"
    assert name_of(tuple[int, ...]) == "tuple[int, ...]"
    assert name_of(float | None) == "float | None"


@typed
def asked(*, steps: int, rate: float | None = None, where: str = "", more: list = ()):
    """Gives what came."""
    return steps, rate, where, more


def test_what_fits_the_annotations_arrives_as_their_type():
    found = asked(steps=np.int64(3), rate=2, where=pathlib.Path("a/b"), more=[1])
    assert found == (3, 2.0, "a/b", [1])
    assert [type(one) for one in found] == [int, float, str, list]
    assert asked(steps=3, rate=None) == (3, None, "", ())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"steps": "3"},
            r"steps came as '3' \(str\); expected int in asked\(\)\.",
        ),
        ({"steps": True}, r"steps came as True \(bool\); expected int"),
        ({"steps": 3, "rate": "x"}, r"rate came as 'x' \(str\); expected float | None"),
        ({"steps": 3, "nothing": 1}, "unexpected keyword argument 'nothing'"),
    ],
)
def test_arguments_of_another_type_are_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        asked(**arguments)


def test_gin_knows_the_names_of_a_typed_function_and_its_values_are_checked():
    function = gin.external_configurable(asked, name="asked_by_gin")
    try:
        gin.parse_config("asked_by_gin.rate = 3")
        assert function(steps=1) == (1, 3.0, "", ())
        gin.parse_config("asked_by_gin.rate = 'x'")
        with pytest.raises(TypeError, match="rate came as 'x'"):
            function(steps=1)
        with pytest.raises(ValueError, match="have a parameter named 'nothing'"):
            gin.parse_config("asked_by_gin.nothing = 1")
    finally:
        gin.clear_config()

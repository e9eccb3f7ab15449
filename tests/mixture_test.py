"""Mixtures: what --problem means, rates, and draws that forget nothing."""

import collections

import numpy as np
import pytest

from t2t_mm import registry
from t2t_mm.mixture import (
    Mixture,
    draw_problem,
    get_problems,
    mixture_rates,
    parse_problems,
)
from t2t_mm.problem import Feature, Problem


@pytest.fixture(autouse=True)
def three_problems(monkeypatch):
    monkeypatch.setattr(registry.problems, "_entries", {})
    monkeypatch.setattr(registry.mixtures, "_entries", {})
    words = Feature("text", vocabulary="words")
    for name in ("ant", "bee", "cat"):
        attributes = {"inputs": words, "targets": words, "command": f"To-{name}"}
        registry.problems.register(type(name.title(), (Problem,), attributes))

    @registry.register_mixture
    def insects():
        """Six legs each."""
        return Mixture(("ant", "bee"), {"ant": 3.0, "bee": 1.0})


def test_a_problem_a_list_and_a_mixture_mean_problems():
    assert parse_problems("bee").problems == ("bee",)
    assert parse_problems("cat, ant,cat,").problems == ("cat", "ant")
    assert parse_problems("insects").rates == {"ant": 3.0, "bee": 1.0}
    assert parse_problems(["cat", "insects"]) == Mixture(
        ("cat", "ant", "bee"), {"cat": 1.0, "ant": 3.0, "bee": 1.0}
    )


def test_problems_come_in_the_order_of_the_mixture():
    made = get_problems(parse_problems("cat,insects"))
    assert [problem.name for problem in made] == ["cat", "ant", "bee"]


def test_one_name_for_a_vocabulary_and_a_label_set_is_refused():
    labels = Feature("class_label", vocabulary="words", labels=("a", "b"))
    inputs = Feature("image", height=3, width=5)
    attributes = {"inputs": inputs, "targets": labels, "command": "To-Category"}
    registry.problems.register(type("Dog", (Problem,), attributes))
    assert len(get_problems(parse_problems("dog"))) == 1
    with pytest.raises(ValueError, match="both 'ant' .text. and 'dog' .class_label."):
        get_problems(parse_problems("ant,dog"))


def test_an_unknown_name_is_answered_with_problems_and_mixtures():
    with pytest.raises(registry.UnknownNameError, match="'insect'. Nearest: insects"):
        parse_problems("cat,insect")


@pytest.mark.parametrize("nothing", ["", " , ", []])
def test_naming_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match="names nothing"):
        parse_problems(nothing)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_not_positive_and_finite_is_refused(rate):
    with pytest.raises(ValueError, match="of 'ant'; expected a number above 0"):
        Mixture(("ant",), {"ant": rate})


def test_a_rate_for_a_problem_outside_is_refused():
    with pytest.raises(ValueError, match="Rate for 'bee', which is not in"):
        Mixture(("ant",), {"bee": 1.0})


@pytest.mark.parametrize(
    ("rule", "temperature", "expected"),
    [
        ("explicit", None, [3 / 4, 1 / 4]),
        ("equal", None, [1 / 2, 1 / 2]),
        ("proportional", None, [100 / 500, 400 / 500]),
        ("temperature", None, [10 / 30, 20 / 30]),
        ("temperature", 2.0, [10 / 30, 20 / 30]),
        ("temperature", 1.0, [100 / 500, 400 / 500]),
        ("temperature", float("inf"), [1 / 2, 1 / 2]),
    ],
)
def test_rates_follow_their_rule(rule, temperature, expected):
    rates = mixture_rates(
        parse_problems("insects"),
        {"ant": 100, "bee": 400},
        rule=rule,
        temperature=temperature,
    )
    assert list(rates) == ["ant", "bee"]
    np.testing.assert_allclose(list(rates.values()), expected)


def test_rates_that_a_run_keeps_stay_the_same_to_the_bit():
    names = tuple(f"p{i}" for i in range(60))
    for number in range(1, 61):
        some = names[:number]
        sizes = {name: 7 * i + 3 for i, name in enumerate(some)}
        for rule in ("equal", "proportional", "temperature"):
            kept = mixture_rates(Mixture(some), sizes, rule=rule)
            assert mixture_rates(Mixture(some, kept), sizes) == kept


def test_explicit_rates_are_equal_where_none_are_given():
    assert mixture_rates(parse_problems("cat,ant"), {}) == {"cat": 0.5, "ant": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "propotional"}, "expected one of explicit, equal, proportional"),
        ({"rule": "temperature", "temperature": 0.0}, "temperature is 0.0"),
        ({"rule": "temperature", "temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 3.0}, "temperature 3 came with rates 'explicit'; expected it"),
        ({"rule": "proportional"}, "Problem 'bee' has 0 training examples"),
    ],
)
def test_a_wrong_rule_temperature_or_count_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mixture_rates(parse_problems("insects"), {"ant": 5, "bee": 0}, **arguments)


def test_draws_follow_the_rates_and_nothing_but_seed_and_step():
    rates = {"ant": 0.7, "bee": 0.2, "cat": 0.1}
    drawn = [draw_problem(11, step, rates) for step in range(5000)]
    counts = collections.Counter(drawn)
    for name, rate in rates.items():
        assert abs(counts[name] / 5000 - rate) < 0.02
    assert drawn[4321] == draw_problem(11, 4321, rates)
    assert drawn != [draw_problem(13, step, rates) for step in range(5000)]


def test_draws_of_unscaled_rates_are_those_of_their_shares():
    for step in range(200):
        assert draw_problem(2, step, {"ant": 6.0, "bee": 2.0}) == draw_problem(
            2, step, {"ant": 0.75, "bee": 0.25}
        )

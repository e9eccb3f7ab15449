"""Cuts of sorted examples into batches: within limits, with the least padding."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from t2t_mm.batch_cuts import BatchLimits, Padding, cut, padding_of


def limits_of(budget, max_examples=0):
    return BatchLimits({0: budget, 1: budget}, max_examples, {0: 99, 1: 99})


def cost_of(lengths, starts, limits, price):
    """Gives what `cut` minimises, by hand, and whether every batch fits."""
    total, fit = 0.0, True
    usage = sum(max(pair) / limits.budgets[0] for pair in lengths.tolist())
    for begin, end in zip(starts, [*starts[1:], len(lengths)], strict=True):
        part = lengths[begin:end]
        fit = fit and (end == begin + 1 or len(part) <= limits.size_for(part.max(0)))
        total += (len(part) * part.max(0) / lengths.sum(0)).sum()
        total += price * 2 / max(1.0, usage)
    return total, fit


def all_cuts(number):
    """Gives every way to cut so many examples."""
    for mask in range(2 ** (number - 1)):
        yield [0, *(place + 1 for place in range(number - 1) if mask >> place & 1)]


@hypothesis.given(
    pairs=strategies.lists(
        strategies.tuples(strategies.integers(1, 13), strategies.integers(1, 17)),
        min_size=1,
        max_size=9,
    ),
    budget=strategies.integers(5, 61),
    price=strategies.sampled_from([0.01, 0.1, 0.5, 2.0]),
)
def test_no_other_cuts_cost_less(pairs, budget, price):
    # Each example takes more than a 32nd of a batch here, so pieces are examples.
    lengths, limits = np.array(pairs) + 4, limits_of(budget)
    starts = cut(lengths, limits, price)
    found, fit = cost_of(lengths, starts.tolist(), limits, price)
    assert fit
    costs = (cost_of(lengths, one, limits, price) for one in all_cuts(len(lengths)))
    assert found == pytest.approx(min(cost for cost, fits in costs if fits))


def test_cuts_come_where_lengths_jump():
    # Room for eight long ones: filled to the brim the first batch would have four of
    # them, and so twenty positions for each of the short ones.
    lengths = np.array([[5, 5]] * 4 + [[20, 20]] * 8)
    assert cut(lengths, limits_of(160), 0.5).tolist() == [0, 4]


def test_dear_batches_are_full_and_cheap_ones_have_less_padding():
    lengths = np.sort(np.random.default_rng(0).integers(3, 90, (3001, 1)), axis=0)
    lengths = np.repeat(lengths, 2, axis=1)
    plans = [cut(lengths, limits_of(9973), price) for price in (0.02, 0.1, 2.0)]
    numbers = [len(starts) for starts in plans]
    shares = [padding_of(lengths, starts).together for starts in plans]
    assert numbers[0] > numbers[1] > numbers[2]
    assert shares[0] < shares[1] < shares[2]


def test_equal_examples_fill_batches():
    lengths = np.ones((101, 2), int)
    limits = BatchLimits({}, 7, {})
    numbers = np.diff(cut(lengths, limits, 0.5), append=101)
    assert sorted(numbers) == [3] + [7] * 14
    big = np.diff(cut(np.ones((6401, 2), int), BatchLimits({}, 64, {}), 0.5))
    assert set(big) == {64}


def test_an_example_above_the_budget_is_alone_amid_short_ones():
    lengths = np.array([[1, 1]] * 300 + [[900, 2]] + [[1, 3]] * 300)
    starts = cut(lengths, limits_of(900), 0.5).tolist()
    assert starts == [0, 300, 301]


def test_nothing_is_cut_into_nothing():
    assert len(cut(np.zeros((0, 2), int), limits_of(5), 0.5)) == 0
    assert padding_of(np.zeros((0, 2), int), np.zeros(0, int)) == Padding(0, 0, 0)


def test_padding_is_counted_in_positions():
    lengths = np.array([[1, 10], [3, 20], [5, 1]])
    found = padding_of(lengths, np.array([0, 2]))
    # Inputs 9 of 6 + 5, targets 31 of 40 + 1.
    assert found == pytest.approx((2 / 11, 10 / 41, 12 / 52))
    assert found.worst == found.targets

"""Tests of the largest few of many values."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.likeliest import likeliest


@pytest.mark.parametrize("size", [1, 5, 4096, 4161, 8192, 12347])
@pytest.mark.parametrize("kinds", [3, 1000, 10**6])
def test_finds_what_sorting_finds_also_among_equals(size, kinds):
    rng = np.random.default_rng(size)
    values = rng.integers(0, kinds, [3, size]).astype(np.float32) - kinds / 2
    count = min(7, size)
    best, places = likeliest(tf.constant(values), count)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(best, np.take_along_axis(values, expected, 1))


def test_finds_forbidden_ones_where_nothing_else_is_left():
    values = np.full([2, 5003], -1e9, np.float32)
    values[1, 4000] = -2.0
    best, places = likeliest(tf.constant(values), 2)
    np.testing.assert_array_equal(places, [[0, 1], [4000, 0]])
    np.testing.assert_array_equal(best, [[-1e9, -1e9], [-2.0, -1e9]])

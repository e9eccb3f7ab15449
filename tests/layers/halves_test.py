"""Halves of a batch give what the whole gives, for any number of rows."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers import halves


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("rows", "sizes"), [(1, (0, 1)), (4, (2, 2)), (7, (3, 4))])
@pytest.mark.parametrize("is_known", [False, True])
def test_halves_are_the_rows_in_order(rows, sizes, is_known):
    x = normal(rows, 3)
    signature = [tf.TensorSpec([rows if is_known else None, 3])]
    split = tf.function(halves.halves, input_signature=signature)
    parts = split(x)
    assert tuple(len(part) for part in parts) == sizes
    np.testing.assert_array_equal(np.concatenate(parts), x)


def test_a_gpu_gets_all_at_once(monkeypatch):
    monkeypatch.setattr(halves, "has_only_cpus", lambda: False)
    x = tf.constant(normal(4, 3))
    [part] = halves.halves(x)
    assert part is x
    calls = []
    halves.side_by_side(lambda one: calls.append(one) or one, x)
    assert len(calls) == 1 and calls[0] is x


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_layers_side_by_side_see_every_row_once_and_never_none(rows):
    seen = []

    def layers(x, mask):
        seen.append(len(x))
        return tf.where(mask[:, None], 2 * x, 0.0)

    x, mask = normal(rows, 3), np.arange(rows) % 2 == 0
    y = halves.side_by_side(layers, tf.constant(x), tf.constant(mask))
    np.testing.assert_array_equal(y, 2 * x * mask[:, None])
    assert min(seen) > 0 and sum(seen) == max(rows, 2)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_product_and_its_gradients_are_those_of_matrices(rows):
    x, matrix, upstream = normal(rows, 5), normal(5, 4, seed=1), normal(rows, 4, seed=2)
    given = tf.constant(x), tf.constant(matrix)
    with tf.GradientTape() as tape:
        tape.watch(given)
        y = halves.product(*given)
    of_x, of_matrix = tape.gradient(y, given, output_gradients=tf.constant(upstream))
    np.testing.assert_allclose(y, x @ matrix, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_x, upstream @ matrix.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_matrix, x.T @ upstream, rtol=1e-5, atol=1e-6)

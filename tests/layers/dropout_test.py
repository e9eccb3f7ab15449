import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers.dropout import LEVELS, Dropout


@pytest.mark.parametrize("shape", [(3,), (7, 5), (2, 3, 3, 3), (0, 4)])
def test_a_value_is_dropped_or_scaled_and_its_gradient_with_it(shape):
    keras.utils.set_random_seed(1)
    layer = Dropout(0.5)
    x = tf.ones(shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    assert y.shape == shape and set(np.unique(y)) <= {0.0, 2.0}
    np.testing.assert_array_equal(tape.gradient(y, x), y)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.9])
def test_the_rate_is_met_and_the_mean_kept(rate):
    keras.utils.set_random_seed(2)
    y = Dropout(rate)(tf.ones([1000, 401]), training=True).numpy()
    # Five standard deviations of 401,000 draws.
    assert abs((y == 0).mean() - rate) < 5 * (rate * (1 - rate) / y.size) ** 0.5
    kept = 1 - round(rate * LEVELS) / LEVELS
    np.testing.assert_allclose(y[y > 0], 1 / kept, rtol=1e-6)
    # No pattern along rows or columns, of odd length, nor between neighbours.
    for axis in (0, 1):
        assert np.ptp((y == 0).mean(axis)) < 10 * (0.25 / y.shape[axis]) ** 0.5
    together = ((y[:, 1:] == 0) & (y[:, :-1] == 0)).mean()
    assert together == pytest.approx(rate**2, abs=0.01)


def test_each_call_draws_anew_and_a_seed_draws_again():
    x, drawn = tf.ones([50, 7]), []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        layer = Dropout(0.5)
        drawn.append([layer(x, training=True).numpy() for _ in range(2)])
    assert (drawn[0][0] != drawn[0][1]).any()
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_without_training_or_rate_nothing_is_dropped():
    x = tf.ones([4, 4])
    assert Dropout(0.5)(x, training=False) is x
    assert Dropout(0.0)(x, training=True) is x


def test_compiled_with_free_or_with_fixed_shapes_by_xla_it_draws_the_same():
    x = tf.ones([6, 5], tf.bfloat16)
    found = []
    for options in ({}, {"jit_compile": True}):
        keras.utils.set_random_seed(4)
        layer = Dropout(0.3, dtype="mixed_bfloat16")
        layer.build(x.shape)
        step = tf.function(lambda x, one=layer: one(x, training=True), **options)
        found.append(step(x))
        assert found[-1].dtype == tf.bfloat16
    np.testing.assert_array_equal(*[tf.cast(one, tf.float32) for one in found])

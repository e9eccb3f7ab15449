import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers import noise


@pytest.mark.parametrize("shape", [(3,), (7, 5), (0, 4), (1, 1)])
def test_the_shape_is_kept_whether_known_or_not(shape):
    seed = keras.random.SeedGenerator(3)
    assert noise.normal(shape, seed).shape == shape
    free = tf.function(
        lambda x: noise.normal(tf.shape(x), seed),
        input_signature=[tf.TensorSpec([None] * len(shape))],
    )
    assert free(tf.zeros(shape)).shape == shape


def test_the_numbers_are_normal():
    x = np.sort(noise.normal((200_000,), keras.random.SeedGenerator(5)).numpy())
    assert np.isfinite(x).all() and len(np.unique(x)) > 190_000
    # Kolmogorov and Smirnov's distance: 1.95 / sqrt(n) in one draw of a thousand.
    expected = 0.5 * (1 + tf.math.erf(x.astype(np.float64) / 2**0.5).numpy())
    assert np.abs(expected - np.arange(len(x)) / len(x)).max() < 1.95 / len(x) ** 0.5
    assert abs((x**4).mean() - 3) < 0.1


def test_numbers_do_not_hang_together():
    x = noise.normal((2, 100_000), keras.random.SeedGenerator(7)).numpy()
    # The two of a pair are half a draw apart; neighbours and squares, too.
    for a, b in ((x[0], x[1]), (x[0] ** 2, x[1] ** 2), (x[0, 1:], x[0, :-1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.015


def test_a_seed_gives_the_same_numbers_once_and_others_next():
    first, second = (keras.random.SeedGenerator(11) for _ in range(2))
    a, b, c = (noise.normal((50,), seed).numpy() for seed in (first, second, first))
    np.testing.assert_array_equal(a, b)
    assert not set(a) & set(c)

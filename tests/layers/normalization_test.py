import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers.normalization import LayerNorm
from t2t_mm.testing import dtype_policy, run_layer_test


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plain(x, scale, bias, epsilon=1e-6):
    """The definition, in whatever kind of number comes."""
    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), -1, keepdims=True)
    return (x - mean) / tf.sqrt(variance + epsilon) * scale + bias


def made(size):
    layer = LayerNorm()
    layer.build((None, size))
    layer.scale.assign(normal(size, seed=1))
    layer.bias.assign(normal(size, seed=2))
    return layer


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 5), (2, 3, 7, 5)])
def test_it_has_mean_0_and_variance_1_then_scale_and_shift(shape):
    layer, x = made(5), 3 + 2 * normal(*shape)
    y = (layer(x).numpy() - layer.bias.numpy()) / layer.scale.numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(-1), 1, atol=1e-3)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5)])
def test_the_written_gradient_is_that_of_automatic_differentiation(shape):
    layer = made(5)
    x, weight = tf.constant(normal(*shape)), normal(*shape, seed=7)
    parts = [x, layer.scale.value, layer.bias.value]

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(parts)
            loss = tf.reduce_sum(function() * weight)
        return tape.gradient(loss, parts)

    got = gradients(lambda: layer(x))
    expected = gradients(lambda: plain(*parts))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_written_gradient_is_that_of_small_differences():
    layer = made(3)
    x, weight = normal(2, 3).astype(np.float64), normal(2, 3, seed=7)
    scale, bias = layer.scale.numpy(), layer.bias.numpy()
    tensor = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = tf.reduce_sum(layer(tensor) * weight)
    got = tape.gradient(loss, tensor).numpy()
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        up, down = (
            np.sum(
                plain(tf.constant(x + s), scale.astype(float), bias.astype(float))
                * weight
            )
            for s in (step, -step)
        )
        np.testing.assert_allclose(got[place], (up - down) / 2e-5, atol=1e-3)


def test_equal_values_give_the_bias_and_no_nan():
    layer = made(5)
    y = layer(np.full((2, 5), 3.0, np.float32)).numpy()
    np.testing.assert_allclose(y, np.tile(layer.bias.numpy(), (2, 1)), atol=1e-6)


def test_it_computes_in_float32_under_low_precision():
    with dtype_policy("mixed_bfloat16"):
        layer = made(101)
    x = tf.cast(10 + normal(2, 101), tf.bfloat16)
    y = layer(x)
    expected = plain(
        tf.cast(x, tf.float32), layer.scale.numpy(), layer.bias.numpy()
    ).numpy()
    assert y.dtype == tf.bfloat16
    # Only the last rounding is bfloat16's, of 8 bits.
    np.testing.assert_allclose(tf.cast(y, tf.float32), expected, rtol=2**-8, atol=1e-3)


def test_it_keeps_the_laws_of_layers():
    assert not run_layer_test(LayerNorm, normal(2, 3, 5))

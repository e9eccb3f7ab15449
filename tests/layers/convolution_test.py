import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers.convolution import (
    ConvBlock,
    ConvRes,
    ConvStep,
    depthwise_convolution,
    max_pool,
)
from t2t_mm.testing import run_layer_test

KERNELS, DILATIONS = (3, 3, 15, 15), (1, 1, 1, 8)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mask_of(*lengths, size=None):
    size = size or max(lengths)
    return np.arange(size)[None] < np.array(lengths)[:, None]


def depthwise(x, kernel, *, dilation=1, stride=1, is_causal=False):
    """Tap by tap: y[i, j] = sum x[i s + (a - before) d, j s + b - kw // 2] k[a, b]."""
    (kh, kw), (rows, columns) = kernel.shape[:2], x.shape[1:3]
    before = kh - 1 if is_causal else kh // 2
    shape = (len(x), -(-rows // stride), -(-columns // stride), x.shape[3])
    y = np.zeros(shape)
    for i, j, a, b in np.ndindex(shape[1], shape[2], kh, kw):
        row, column = i * stride + (a - before) * dilation, j * stride + b - kw // 2
        if 0 <= row < rows and 0 <= column < columns:
            y[:, i, j] += x[:, row, column] * kernel[a, b]
    return y


def conv_step(step, x, mask, *, is_causal=False):
    x = np.maximum(x, 0) * mask[..., None]
    x = depthwise(
        x,
        step.depthwise.numpy(),
        dilation=step.dilation,
        stride=step.stride,
        is_causal=is_causal,
    )
    y = x @ step.pointwise.numpy() + step.bias.numpy()
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    return y * step.norm.scale.numpy() + step.norm.bias.numpy()


def shaken(layer, shape, seed=3):
    layer.build(shape)
    for i, variable in enumerate(layer.trainable_variables):
        variable.assign(normal(*variable.shape, seed=seed + i))
    return layer


def pooled(x, mask, strides):
    rows, columns = x.shape[1:3]
    y = np.zeros(
        (len(x), -(-rows // strides[0]), -(-columns // strides[1]), x.shape[3])
    )
    for n, i, j in np.ndindex(y.shape[:3]):
        row, column = i * strides[0], j * strides[1]
        if mask[n, row, column]:
            near = (
                slice(max(row - 1, 0), row + 2),
                slice(max(column - 1, 0), column + 2),
            )
            y[n, i, j] = x[n][near][mask[n][near]].max(0)
    return y


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 13, 31])
@pytest.mark.parametrize("taps, dilation", [(3, 1), (5, 1), (15, 1), (15, 8), (5, 2)])
def test_sequences_are_convolved_tap_by_tap(taps, dilation, length, is_causal):
    x, kernel = normal(2, length, 1, 5), normal(taps, 1, 5, seed=1)
    got = depthwise_convolution(
        x, kernel, dilation=dilation, stride=1, is_causal=is_causal
    )
    expected = depthwise(x, kernel, dilation=dilation, is_causal=is_causal)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("height, width", [(7, 5), (6, 11), (1, 1), (2, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("taps", [(3, 3), (5, 3), (3, 1)])
def test_pictures_are_convolved_tap_by_tap(taps, stride, height, width):
    x, kernel = normal(2, height, width, 3), normal(*taps, 3, seed=1)
    got = depthwise_convolution(x, kernel, dilation=1, stride=stride, is_causal=False)
    np.testing.assert_allclose(got, depthwise(x, kernel, stride=stride), atol=1e-5)


def test_short_and_long_inputs_share_one_compiled_convolution():
    kernel = tf.constant(normal(15, 1, 3))

    @tf.function(input_signature=[tf.TensorSpec([None, None, 1, 3])])
    def convolve(x):
        return depthwise_convolution(x, kernel, dilation=8, stride=1, is_causal=True)

    for length in (1, 7, 8, 9, 37, 131):
        x = normal(2, length, 1, 3)
        expected = depthwise(x, kernel.numpy(), dilation=8, is_causal=True)
        np.testing.assert_allclose(convolve(x), expected, atol=1e-4)
    assert convolve(np.zeros((2, 0, 1, 3), np.float32)).shape == (2, 0, 1, 3)


def test_taps_left_out_of_a_short_input_have_gradient_zero():
    kernel = tf.constant(normal(15, 1, 3))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = depthwise_convolution(
            normal(2, 3, 1, 3), kernel, dilation=1, stride=1, is_causal=True
        )
        loss = tf.reduce_sum(tf.square(y))
    gradient = tape.gradient(loss, kernel).numpy()
    assert not gradient[:12].any()
    assert gradient[12:].all()


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_conv_step_is_relu_convolution_and_normalisation(is_causal):
    step = ConvStep(5, kernel=(3, 1), dilation=2, is_causal=is_causal)
    shaken(step, (None, None, 1, 3))
    x, mask = normal(2, 7, 1, 3), mask_of(7, 4)[:, :, None]
    expected = conv_step(step, x, mask, is_causal=is_causal)
    np.testing.assert_allclose(step(x, mask), expected, atol=1e-4)


@pytest.mark.parametrize("kernel, stride", [((3, 3), 2), ((1, 1), 2), ((3, 3), 1)])
def test_a_conv_step_works_on_pictures(kernel, stride):
    step = shaken(ConvStep(5, kernel=kernel, stride=stride), (None, None, None, 3))
    x, mask = normal(2, 7, 11, 3), np.ones((2, 7, 11), bool)
    mask[1, 5:] = mask[1, :, 4:] = False
    expected = conv_step(step, x, mask)
    np.testing.assert_allclose(step(x, mask), expected, atol=1e-4)


def test_a_conv_step_without_a_mask_has_no_padding():
    step = shaken(ConvStep(5), (None, None, None, 3))
    x = normal(2, 7, 5, 3)
    np.testing.assert_array_equal(step(x), step(x, np.ones((2, 7, 5), bool)))


def test_a_conv_step_refuses_a_dilation_with_a_stride():
    with pytest.raises(ValueError, match="dilation 8, stride 2 and kernel"):
        ConvStep(5, kernel=(3, 1), dilation=8, stride=2)
    with pytest.raises(ValueError, match=r"goes with stride 1 and a kernel \(k, 1\)"):
        ConvStep(5, kernel=(3, 3), dilation=8)


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_conv_block_is_four_steps_and_two_skips(is_causal):
    block = ConvBlock(5, dropout=0.5, is_causal=is_causal)
    shaken(block, (None, None, 5))
    x, mask = normal(2, 17, 5), mask_of(17, 11)
    steps = [
        lambda h, step=step: conv_step(step, h, mask[:, :, None], is_causal=is_causal)
        for step in block.steps
    ]
    picture = x[:, :, None]
    h2 = picture + steps[1](steps[0](picture))
    h4 = picture + steps[3](steps[2](h2))
    got = block(x, mask, training=False)
    assert [step.kernel_size for step in block.steps] == [(k, 1) for k in KERNELS]
    assert [step.dilation for step in block.steps] == list(DILATIONS)
    np.testing.assert_allclose(got, h4[:, :, 0], atol=2e-3)


def test_a_conv_block_starts_as_an_identity():
    block = ConvBlock(5, dropout=0.0, is_causal=False)
    block.build((None, None, 5))
    x, mask = normal(2, 7, 5), mask_of(7, 5)
    np.testing.assert_allclose(block(x, mask, training=True), x, atol=1e-6)


def test_a_conv_block_drops_values_in_training_only():
    block = shaken(ConvBlock(5, dropout=0.5, is_causal=False), (None, None, 5))
    x, mask = normal(2, 7, 5), mask_of(7, 7)
    kept = block(x, mask, training=False).numpy()
    dropped = block(x, mask, training=True).numpy()
    is_zero = dropped == 0
    assert 0.2 < is_zero.mean() < 0.8
    np.testing.assert_allclose(dropped[~is_zero], 2 * kept[~is_zero], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_conv_block_trains_on_halves_as_on_the_whole(rows, is_compiled):
    block = ConvBlock(8, dropout=0.0, is_causal=True)
    x = tf.constant(normal(rows, 9, 8))
    mask = tf.constant(mask_of(*range(9, 9 - rows, -1)))
    block.build(x.shape)
    for number, variable in enumerate(block.trainable_variables):
        variable.assign(normal(*variable.shape, seed=number))
    values = [variable.value for variable in block.trainable_variables]
    upstream = normal(rows, 9, 8, seed=99)

    def gradients(x, mask, upstream, training):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x, mask, training=training)
            total = tf.reduce_sum(y * upstream)
        return y, *tape.gradient(total, [x, *values])

    given = x, mask, tf.constant(upstream)
    train = gradients
    if is_compiled:  # for any number of rows, as the trainer's steps are
        shapes = [tf.TensorSpec([None, *one.shape[1:]], one.dtype) for one in given]
        train = tf.function(gradients).get_concrete_function(*shapes, training=True)
    found = train(*given) if is_compiled else train(*given, training=True)
    for trained, whole in zip(found, gradients(*given, training=False), strict=True):
        scale = float(tf.reduce_max(tf.abs(whole)))
        np.testing.assert_allclose(trained, whole, rtol=1e-4, atol=1e-5 * scale)


def test_a_conv_block_refuses_other_than_four_steps():
    with pytest.raises(ValueError, match="four of each were expected"):
        ConvBlock(5, kernels=(3, 3), dilations=(1, 1), dropout=0.0, is_causal=True)


@pytest.mark.parametrize("length", [5, 23, 151])
def test_a_causal_block_sees_no_later_position(length):
    block = shaken(ConvBlock(3, dropout=0.0, is_causal=True), (None, None, 3))
    x, mask = normal(2, length, 3), mask_of(length, length)
    before = block(x, mask, training=False).numpy()
    for i in (0, length // 2, length - 1):
        changed = x.copy()
        changed[:, i:] += 1
        after = block(changed, mask, training=False).numpy()
        np.testing.assert_allclose(after[:, :i], before[:, :i], atol=1e-4)
        assert np.abs(after - before)[:, i].max() > 1e-3


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("extra", [1, 2, 9])
def test_padding_does_not_change_a_block(extra, is_causal):
    block = shaken(ConvBlock(3, dropout=0.0, is_causal=is_causal), (None, None, 3))
    x, mask = normal(2, 7, 3), mask_of(7, 5)
    longer = np.concatenate([x, normal(2, extra, 3, seed=5)], 1)
    before = block(x, mask, training=False).numpy()
    after = block(longer, mask_of(7, 5, size=7 + extra), training=False).numpy()
    np.testing.assert_allclose(after[0, :7], before[0], atol=1e-4)
    np.testing.assert_allclose(after[1, :5], before[1, :5], atol=1e-4)


@pytest.mark.parametrize("strides", [(2, 2), (2, 1), (1, 1)])
def test_max_pool_takes_the_largest_real_neighbour(strides):
    x, mask = normal(2, 7, 5, 3), np.ones((2, 7, 5), bool)
    mask[1, 4:] = mask[1, :, 3:] = False
    got = max_pool(x, mask, strides=strides)
    np.testing.assert_allclose(got, pooled(x, mask, strides), atol=1e-6)


@pytest.mark.parametrize("strides", [(2, 2), (2, 1)])
@pytest.mark.parametrize("height, width", [(7, 5), (6, 4), (1, 1)])
def test_conv_res_is_two_steps_pooled_beside_a_strided_skip(height, width, strides):
    layer = shaken(ConvRes(5, strides=strides), (None, None, None, 3))
    x, mask = normal(2, height, width, 3), np.ones((2, height, width), bool)
    mask[1, height // 2 + 1 :] = False
    rows, columns = strides
    h = conv_step(layer.step2, conv_step(layer.step1, x, mask), mask)
    small = mask[:, ::rows, ::columns]
    skip = conv_step(layer.skip, x[:, ::rows, ::columns], small)
    got, got_mask = layer(x, mask)
    np.testing.assert_allclose(got, pooled(h, mask, strides) + skip, atol=1e-3)
    np.testing.assert_array_equal(got_mask, small)


def test_every_convolution_layer_keeps_the_laws_of_layers():
    picture, mask = normal(2, 7, 5, 3), np.ones((2, 7, 5), bool)
    assert not run_layer_test(lambda: ConvStep(11, stride=2), picture, mask)
    assert not run_layer_test(lambda: ConvRes(11), picture, mask)
    block = lambda: ConvBlock(3, dropout=0.1, is_causal=True)  # noqa: E731
    assert not run_layer_test(block, normal(2, 7, 3), mask_of(7, 5))

import itertools

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.losses import alignment_loss, cross_entropy, linear_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_loss_is_the_cross_entropy_of_the_smoothed_labels(smoothing):
    logits = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 4, 0, 3], np.int32)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    loss, weight, correct = cross_entropy(logits, labels, label_smoothing=smoothing)
    np.testing.assert_allclose(loss, -(wanted * log_p).sum(), rtol=1e-5)
    assert float(weight) == 7
    assert float(correct) == np.sum(logits.argmax(-1) == labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_gradient_is_what_is_thought_less_what_is_wanted(smoothing):
    logits = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 4, 0, 3], np.int32)
    mask = np.array([1, 1, 0, 1, 1, 1, 1], bool)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    with tf.GradientTape() as tape:
        tape.watch(inputs := tf.constant(logits))
        loss, *_ = cross_entropy(inputs, labels, label_smoothing=smoothing, mask=mask)
    found = tape.gradient(loss, inputs, tf.constant(3.0))
    np.testing.assert_allclose(found, 3 * (p - wanted) * mask[:, None], atol=1e-6)


def test_a_hopeless_label_costs_its_distance_and_nothing_overflows():
    logits = np.array([[500.0, -500.0, 0.0]], np.float32)
    loss, *_ = cross_entropy(logits, np.array([1], np.int32), label_smoothing=0.0)
    assert float(loss) == 1000.0


def test_no_labels_cost_nothing():
    found = cross_entropy(
        np.zeros((0, 5), np.float32), np.zeros(0, np.int32), label_smoothing=0.1
    )
    assert [float(number) for number in found] == [0, 0, 0]


def linear_map():
    """Random x [6, 4], matrix [9, 4], bias [9], labels [6], and which count."""
    rng = np.random.default_rng(0)
    x, matrix, bias = (rng.normal(size=shape) for shape in ((6, 4), (9, 4), (9,)))
    labels = np.array([0, 8, 3, 3, 1, 5], np.int32)
    mask = np.array([1, 1, 0, 1, 1, 1], bool)
    return *(tf.constant(one, tf.float32) for one in (x, matrix, bias)), labels, mask


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_loss_of_a_linear_map_is_that_of_its_logits(smoothing):
    x, matrix, bias, labels, mask = linear_map()

    def loss_of_logits(x, matrix, bias, labels, **options):
        logits = tf.matmul(x, matrix, transpose_b=True) + bias
        return cross_entropy(logits, labels, **options)

    found = []
    for function in (loss_of_logits, linear_cross_entropy):
        with tf.GradientTape() as tape:
            tape.watch([x, matrix, bias])
            numbers = function(
                x, matrix, bias, labels, label_smoothing=smoothing, mask=mask
            )
        gradients = tape.gradient(numbers[0], [x, matrix, bias], tf.constant(3.0))
        found.append([*numbers, *gradients])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert np.abs(found[0][3][mask]).min() > 0


def test_a_sure_label_teaches_as_little_in_low_precision():
    x = tf.constant(np.eye(4)[[0, 1, 2, 3]] * 9, tf.bfloat16)
    matrix, bias = tf.eye(4), tf.zeros(4)
    with tf.GradientTape() as tape:
        tape.watch([x, matrix, bias])
        loss, _, right = linear_cross_entropy(
            x, matrix, bias, np.arange(4, dtype=np.int32), label_smoothing=0.0
        )
    wrong = 1 / (3 + np.exp(9))  # the chance of each other label
    assert float(right) == 4
    np.testing.assert_allclose(loss / 4, 3 * wrong, rtol=1e-2)
    of_x, of_matrix, of_bias = tape.gradient(loss, [x, matrix, bias])
    off = np.ones((4, 4)) - 4 * np.eye(4)
    np.testing.assert_allclose(tf.cast(of_x, tf.float32), wrong * off, rtol=1e-2)
    np.testing.assert_allclose(of_matrix, 9 * wrong * off, rtol=1e-2)
    np.testing.assert_allclose(of_bias, np.zeros(4), atol=1e-6)


def collapsed(path):
    """What a path of ids says: repeats merged, then blanks (0) left out."""
    merged = [one for i, one in enumerate(path) if i == 0 or one != path[i - 1]]
    return [one for one in merged if one]


def chance_of(probabilities, labels):
    """Sums over every path, one id per position, that says the labels."""
    size = probabilities.shape[1]
    paths = itertools.product(range(size), repeat=len(probabilities))
    return sum(
        np.prod(probabilities[np.arange(len(path)), path])
        for path in paths
        if collapsed(path) == list(labels)
    )


def test_the_alignment_loss_sums_over_every_way_to_stretch_the_labels():
    logits = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)
    mask = np.arange(5)[None] < [[5], [4], [5]]
    labels = np.array([[2, 1, 0], [1, 1, 0], [2, 0, 0]], np.int32)
    labels_mask = labels > 0
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chances = [chance_of(p[i][mask[i]], labels[i][labels_mask[i]]) for i in range(3)]
    got = alignment_loss(logits, mask, labels, labels_mask)
    assert float(got) == pytest.approx(-np.log(chances).sum() / 5, rel=1e-4)


def test_padding_does_not_change_the_alignment_loss():
    rng = np.random.default_rng(0)
    logits, mask = rng.normal(size=(2, 5, 3)), np.arange(5)[None] < [[5], [4]]
    labels = np.array([[2, 1], [1, 0]], np.int32)
    before = alignment_loss(logits.astype(np.float32), mask, labels, labels > 0)
    longer = np.concatenate([logits, rng.normal(size=(2, 2, 3))], 1).astype(np.float32)
    mask = np.arange(7)[None] < [[5], [4]]
    labels_mask = np.pad(labels > 0, ((0, 0), (0, 1)))
    labels = np.pad(labels, ((0, 0), (0, 1)), constant_values=2)
    after = alignment_loss(longer, mask, labels, labels_mask)
    assert float(after) == pytest.approx(float(before), rel=1e-5)


def test_labels_that_do_not_fit_the_sound_cost_nothing():
    logits = np.zeros((1, 2, 3), np.float32)
    labels = np.array([[1, 2, 1]], np.int32)
    loss = alignment_loss(logits, np.ones((1, 2), bool), labels, labels > 0)
    assert float(loss) == 0

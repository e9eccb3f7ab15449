"""A batch in two halves, side by side: a chain of layers for more than one thread.

On a CPU, operations that do not wait for each other run at once. In a chain of layers
each waits for the one before, but the two halves of a batch do not wait for each other.
"""

from collections.abc import Callable

import tensorflow as tf

from t2t_mm.devices import has_only_cpus
from t2t_mm.gradients import custom_gradient


def halves(x: tf.Tensor) -> list[tf.Tensor]:
    """Gives both halves of x [N, ...], views; all of it, as one, on a GPU or TPU."""
    if not has_only_cpus():
        return [x]
    count = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
    return tf.split(x, [count // 2, count - count // 2])


def side_by_side(layers: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> tf.Tensor:
    """Gives layers(*tensors), half by half; tensors and result are [N, ...].

    No half is empty: of one row there are two then, since a convolution of oneDNN gives
    what is empty a wrong shape. Where nothing is added, nothing is copied.
    """
    if not has_only_cpus():
        return layers(*tensors)
    count = tf.shape(tensors[0])[0]
    missing = tf.maximum(2 - count, 0)
    padded = []
    for x in tensors:
        two = tf.pad(x, [[0, missing]] + [[0, 0]] * (len(x.shape) - 1))
        padded.append(tf.ensure_shape(two, [None, *x.shape[1:]]))
    both = zip(*map(halves, padded), strict=True)
    y = tf.concat([layers(*half) for half in both], 0)
    real = tf.slice(y, [0] * len(y.shape), [count] + [-1] * (len(y.shape) - 1))
    return tf.ensure_shape(real, [tensors[0].shape[0], *y.shape[1:]])


@custom_gradient
def product(x: tf.Tensor, matrix: tf.Tensor):
    """Gives x @ matrix of x [N, D] and matrix [D, F], half by half.

    The gradient is of the whole: two products, which do not wait for each other.
    """

    def gradient(upstream: tf.Tensor):
        return (
            tf.matmul(upstream, matrix, transpose_b=True),
            tf.matmul(x, upstream, transpose_a=True),
        )

    return tf.concat([tf.matmul(half, matrix) for half in halves(x)], 0), gradient

"""The networks of a mixture of experts, all at once, each on rows of its own.

`experts` calls it. An expert is max(0, x W + b) V + c; shapes: rows [E, C, D], hidden W
[E, D, F] with bias [E, 1, F], output V [E, F, D] with bias [E, 1, D].
"""

from collections.abc import Sequence

import tensorflow as tf


def answers(
    rows: tf.Tensor,
    hidden: tf.Tensor,
    hidden_bias: tf.Tensor,
    output: tf.Tensor,
    output_bias: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the answers [E, C, D], and the hidden units [E, C, F] that made them."""
    h = tf.nn.relu(tf.matmul(rows, hidden) + hidden_bias)
    return tf.matmul(h, output) + output_bias, h


def answers_and_more(
    rows: tf.Tensor, more: tf.Tensor, fullest: tf.Tensor, weights: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Asks all experts, and a few of them a second time, with copies of their weights.

    Args:
      rows: [E, C, D].
      more: [K, M, D], rows of the few.
      fullest: int32 [K], who these are.
      weights: hidden, its bias, output, its bias, of all; in float32, and cast here to
        what the rows are.

    Returns:
      The answers, [E, C, D] and [K, M, D].
    """
    dtype = weights[0].dtype

    @tf.custom_gradient
    def asked_twice(rows, more, *weights):
        of_all = [tf.cast(weight, rows.dtype) for weight in weights]
        again = [tf.gather(weight, fullest) for weight in of_all]
        first, h = answers(rows, *of_all)
        second, more_h = answers(more, *again)

        def gradient(of_first, of_second):
            of_rows, of_weights = _gradients(of_first, rows, h, of_all)
            of_more, of_again = _gradients(of_second, more, more_h, again)
            # Added where they lie: left to TensorFlow, it would be to a copy.
            of_weights = [
                tf.raw_ops.ScatterNdNonAliasingAdd(
                    input=tf.cast(one, dtype),
                    indices=fullest[:, None],
                    updates=tf.cast(other, dtype),
                )
                for one, other in zip(of_weights, of_again, strict=True)
            ]
            return of_rows, of_more, *of_weights

        return (first, second), gradient

    return asked_twice(rows, more, *weights)


def _gradients(upstream, rows, h, weights):
    """Gives the gradient of the rows, and those of the weights, of `answers`."""
    hidden, _, output, _ = weights
    of_h = tf.matmul(upstream, output, transpose_b=True)
    of_h = tf.raw_ops.ReluGrad(gradients=of_h, features=h)
    return tf.matmul(of_h, hidden, transpose_b=True), [
        tf.matmul(rows, of_h, transpose_a=True),
        tf.reduce_sum(of_h, 1, keepdims=True),
        tf.matmul(h, upstream, transpose_a=True),
        tf.reduce_sum(upstream, 1, keepdims=True),
    ]


def few_answers(
    rows: tf.Tensor, chosen: tf.Tensor, order: tf.Tensor, weights: Sequence[tf.Tensor]
) -> tf.Tensor:
    """Gives the answers, [M, D], for a few rows; no weight is copied, no row padded.

    The chosen experts are asked in a loop, whose rounds do not wait for each other.
    As parts of the graph, side by side, 30 experts took as long.

    Args:
      rows: [M, D], ordered by their expert.
      chosen: int32 [M], the expert of each, not in order.
      order: int32 [M], what puts them in order.
      weights: hidden, its bias, output, its bias, of all E.
    """
    used, _, counts = tf.unique_with_counts(tf.gather(chosen, order))
    ends = tf.cumsum(counts)

    def ask(number, found):
        # A slice of the first axis is a view, where a gather would be a copy.
        end = ends[number]
        part = rows[end - counts[number] : end]
        its = (weight[used[number]] for weight in weights)
        return number + 1, found.write(number, _answer(part, *its))

    found = tf.TensorArray(
        rows.dtype,
        tf.size(used),
        infer_shape=False,
        element_shape=[None, rows.shape[-1]],
    )
    loop = tf.while_loop(lambda number, _: number < tf.size(used), ask, (0, found))
    return loop[1].concat()


def _answer(part, hidden, hidden_bias, output, output_bias):
    """Runs one expert on rows [C, D]; weights [D, F], [1, F], [F, D], [1, D]."""
    h = tf.nn.relu(tf.nn.bias_add(tf.matmul(part, hidden), hidden_bias[0]))
    return tf.nn.bias_add(tf.matmul(h, output), output_bias[0])

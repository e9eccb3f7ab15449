"""The networks of a mixture of experts, part by part, each on rows of its own.

`experts` calls it. An expert is max(0, x W + b) V + c; shapes: rows [R, D], hidden W
[E, D, F] with bias [E, 1, F], output V [E, F, D] with bias [E, 1, D].
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from t2t_mm.gradients import custom_gradient


def answers(
    rows: tf.Tensor,
    weights: Sequence[tf.Tensor],
    parts: Sequence[int],
    capacities: Sequence[Any],
) -> tf.Tensor:
    """Gives the answers [R, D] of experts that come in parts.

    The parts do not wait for each other, so several threads share them. Slices of the
    first axis are views: nothing is copied but the gradients, into one.

    Args:
      rows: [R, D], ordered by their expert.
      weights: hidden, its bias, output, its bias, of all; in float32, and cast here to
        what the rows are.
      parts: how many experts each part has.
      capacities: how many rows each expert of a part has, numbers or int32 scalars.
    """
    dtype = weights[0].dtype

    @custom_gradient
    def asked(rows, *weights):
        given = _rows_of_parts(rows, parts, capacities)
        cast = [_weights_of_parts(tf.cast(one, rows.dtype), parts) for one in weights]
        cast = list(zip(*cast, strict=True))
        units, found = zip(
            *[_units_and_answers(*one) for one in zip(given, cast, strict=True)],
            strict=True,
        )

        def gradient(upstream):
            upstream = _rows_of_parts(upstream, parts, capacities)
            of_rows, *of_weights = zip(
                *[
                    _gradients(*one)
                    for one in zip(upstream, given, units, cast, strict=True)
                ],
                strict=True,
            )
            return _rows_together(of_rows, parts), *(
                tf.cast(_weights_together(one, parts), dtype) for one in of_weights
            )

        return _rows_together(found, parts), gradient

    return asked(rows, *weights)


# One expert is a matrix, not a batch of one: its products take a tenth less.


def _rows_of_parts(rows, parts, capacities):
    sizes = [n * capacity for n, capacity in zip(parts, capacities, strict=True)]
    rows = tf.split(rows, sizes) if len(parts) > 1 else [rows]
    return [
        one if n == 1 else tf.reshape(one, [n, capacity, one.shape[-1]])
        for one, n, capacity in zip(rows, parts, capacities, strict=True)
    ]


def _rows_together(of_parts, parts):
    rows = [
        one if n == 1 else tf.reshape(one, [-1, one.shape[-1]])
        for one, n in zip(of_parts, parts, strict=True)
    ]
    return tf.concat(rows, 0) if len(rows) > 1 else rows[0]


def _weights_of_parts(weight, parts):
    ones = tf.split(weight, list(parts)) if len(parts) > 1 else [weight]
    return [
        tf.squeeze(one, 0) if n == 1 else one
        for one, n in zip(ones, parts, strict=True)
    ]


def _weights_together(of_parts, parts):
    weights = [
        one[None] if n == 1 else one for one, n in zip(of_parts, parts, strict=True)
    ]
    return tf.concat(weights, 0) if len(weights) > 1 else weights[0]


def _units_and_answers(rows, weights):
    """Gives the hidden units and the answers of a part."""
    hidden, hidden_bias, output, output_bias = weights
    units = tf.nn.relu(tf.matmul(rows, hidden) + hidden_bias)
    return units, tf.matmul(units, output) + output_bias


def _gradients(upstream, rows, units, weights):
    """Gives the gradient of the rows of a part, and those of its weights."""
    hidden, _, output, _ = weights
    of_units = tf.matmul(upstream, output, transpose_b=True)
    of_units = tf.raw_ops.ReluGrad(gradients=of_units, features=units)
    return (
        tf.matmul(of_units, hidden, transpose_b=True),
        tf.matmul(rows, of_units, transpose_a=True),
        tf.reduce_sum(of_units, -2, keepdims=True),
        tf.matmul(units, upstream, transpose_a=True),
        tf.reduce_sum(upstream, -2, keepdims=True),
    )


def list_of(tensors: Sequence[tf.Tensor]) -> tf.TensorArray:
    """Gives tensors of one shape in a form that finds one by a number, copying none.

    To be made before a loop that looks into it: making it takes an operation each.
    """
    found = tf.TensorArray(
        tensors[0].dtype,
        len(tensors),
        clear_after_read=False,
        element_shape=tensors[0].shape,
    )
    for number, tensor in enumerate(tensors):
        found = found.write(number, tensor)
    return found


def few_answers(
    rows: tf.Tensor,
    chosen: tf.Tensor,
    order: tf.Tensor,
    pieces: Sequence[tf.TensorArray],
    count: int,
) -> tf.Tensor:
    """Gives the answers, [M, D], for a few rows; no weight is copied, no row padded.

    The chosen experts are asked in a loop, whose rounds do not wait for each other.
    As parts of the graph, side by side, 30 experts took as long.

    Args:
      rows: [M, D], ordered by their expert.
      chosen: int32 [M], the expert of each, not in order.
      order: int32 [M], what puts them in order.
      pieces: hidden, its bias, output, its bias, each a `list_of` those of all pieces.
      count: how many experts a piece has.
    """
    used, _, counts = tf.unique_with_counts(tf.gather(chosen, order))
    ends = tf.cumsum(counts)

    def ask(number, found):
        # A slice of the first axis is a view, where a gather would be a copy.
        end = ends[number]
        part = rows[end - counts[number] : end]
        piece, place = used[number] // count, used[number] % count
        its = (one.read(piece)[place] for one in pieces)
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

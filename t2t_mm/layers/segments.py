"""Several examples in one row, kept apart: where each lies, and how to separate them.

In packed rows [B, L] examples follow each other without padding. Layers that look at
one position at a time (embedding, pointwise matrices, normalisation, experts, logits)
need not know. Layers that mix positions (attention, convolutions, means) take the
examples apart to rows of their own, [N, T], mix there, and put the result back: so
they compute exactly what they compute of examples that were never packed. Masks that
forbid looking across a border would be right, too, but attention would then compute
every pair of positions of a row, and a convolution with masked taps cannot be one
kernel; gaps as wide as a ConvBlock's reach (112 positions) would be padding again.

N examples of a batch, T positions of the longest of them.
"""

from typing import NamedTuple

import tensorflow as tf

from t2t_mm.gradients import custom_gradient


class Segments(NamedTuple):
    """Where the examples of packed rows lie.

    Attributes:
      positions: int32 [B, L], of each position in its example; 0 where there is none.
      examples: int32 [B, L], number of its example, 0 to N - 1; 0 where there is none.
      is_real: bool [B, L], whether there is a position.
      slots: int32 [N, T], the position of B * L that example n has at t; 0 for none.
      mask: bool [N, T], whether there is one.
    """

    positions: tf.Tensor
    examples: tf.Tensor
    is_real: tf.Tensor
    slots: tf.Tensor
    mask: tf.Tensor


def segments_of(numbers: tf.Tensor) -> Segments:
    """Finds the examples of packed rows.

    Args:
      numbers: int32 [B, L], the same at all positions of an example, from 1 on in each
        row and one more for each further example; 0 where there is no position.
    """
    shape = tf.shape(numbers)
    is_real = numbers > 0
    before = tf.pad(numbers[:, :-1], [[0, 0], [1, 0]])
    begins = tf.reshape(is_real & (numbers != before), [-1])  # [B*L]
    starts = tf.cast(tf.where(begins)[:, 0], tf.int32)  # [N]
    real = tf.reshape(is_real, [-1])
    examples = tf.where(real, tf.cumsum(tf.cast(begins, tf.int32)) - 1, 0)
    lengths = tf.math.unsorted_segment_sum(
        tf.cast(real, tf.int32), examples, tf.shape(starts)[0]
    )
    positions = tf.range(tf.size(real)) - tf.gather(starts, examples)
    positions = tf.where(real, positions, 0)
    mask = tf.sequence_mask(lengths, tf.reduce_max(lengths))
    slots = starts[:, None] + tf.range(tf.shape(mask)[1])  # [N, T]
    return Segments(
        tf.reshape(positions, shape),
        tf.reshape(examples, shape),
        is_real,
        tf.where(mask, slots, 0),
        mask,
    )


def apart(x: tf.Tensor, segments: Segments) -> tf.Tensor:
    """Gives each example a row: [B, L, C] to [N, T, C], zero where there is nothing."""
    shape, channels = tf.shape(x), x.shape[-1]
    real = tf.reshape(segments.is_real, [-1, 1])
    places = _places(segments)

    # Each position has one slot, so the gradient is a gather, too, and no scatter.
    @custom_gradient
    def taken(flat):
        rows = tf.gather(flat, segments.slots)
        rows *= tf.cast(segments.mask, x.dtype)[..., None]

        def gradient(upstream):
            back = tf.gather(tf.reshape(upstream, [-1, channels]), places)
            return back * tf.cast(real, x.dtype)

        return rows, gradient

    return taken(tf.reshape(x, [shape[0] * shape[1], channels]))


def together(rows: tf.Tensor, segments: Segments) -> tf.Tensor:
    """Puts examples back into packed rows: [N, T, C] to [B, L, C].

    Where there is no position stands what some other position has, which nothing may
    look at; no gradient comes from there.
    """
    shape, channels = tf.shape(rows), rows.shape[-1]
    places = _places(segments)

    @custom_gradient
    def put(flat):
        def gradient(upstream):
            back = tf.gather(upstream, tf.reshape(segments.slots, [-1]))
            return back * tf.cast(tf.reshape(segments.mask, [-1, 1]), rows.dtype)

        return tf.gather(flat, places), gradient

    flat = put(tf.reshape(rows, [shape[0] * shape[1], channels]))
    return tf.reshape(flat, tf.concat([tf.shape(segments.positions), [channels]], 0))


def _places(segments: Segments) -> tf.Tensor:
    """Gives int32 [B*L], which of the N * T slots each position has."""
    places = segments.examples * tf.shape(segments.mask)[1] + segments.positions
    return tf.reshape(places, [-1])

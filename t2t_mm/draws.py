"""Ids drawn by chance; called by `search` and `decoding`.

T the longest answer, R = B * N rows, N answers for each of B inputs.
"""

import tensorflow as tf

from t2t_mm.decode_settings import DecodeHParams


def chances(
    count: int,
    row_numbers: tf.Tensor,
    max_length: tf.Tensor | int,
    random_seed: tf.Tensor | int,
) -> tf.Tensor:
    """Gives what a search by chance needs: float32 [T, R] in [0, 1).

    Not for XLA, whose random numbers are others.

    Args:
      count: N, draws for each input.
      row_numbers: int32 [B]; what is drawn for an input depends on its number and the
        seed alone, not on the batch it is in.
      max_length: T.
      random_seed: int32 scalar.
    """

    def of_row(number):
        # [T, N], not [N, T]: a longer T begins with the same numbers.
        pair = tf.stack([random_seed, number])
        return tf.random.stateless_uniform([max_length, count], pair)

    found = tf.map_fn(of_row, row_numbers, fn_output_signature=tf.float32)  # [B, T, N]
    return tf.reshape(tf.transpose(found, [1, 0, 2]), [max_length, -1])


def drawn(ranked: tf.Tensor, chance: tf.Tensor, settings: DecodeHParams) -> tf.Tensor:
    """Draws ids [R] from scores [R, V] by chances [R] in [0, 1).

    The first id at which the summed probability exceeds the chance; from the likeliest
    on, where only the likeliest may be drawn.
    """
    size = ranked.shape[-1]
    best, ids = ranked / settings.temperature, None
    if settings.top_k or settings.top_p < 1:
        best, ids = tf.math.top_k(best, min(settings.top_k or size, size))  # [R, k]
    probabilities = tf.nn.softmax(best)
    before = tf.cumsum(probabilities, -1, exclusive=True)
    kept = tf.where(before < settings.top_p, probabilities, 0.0)
    sums = tf.cumsum(kept, -1)
    enough = sums > chance[:, None] * sums[:, -1:]
    index = tf.argmax(enough, -1, tf.int32)  # the first
    return index if ids is None else tf.gather(ids, index, axis=1, batch_dims=1)

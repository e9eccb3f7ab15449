"""The largest few of many values, as a beam needs them of a whole vocabulary.

Called by `search` at every position.
"""

import tensorflow as tf

_CHUNK = 64


def likeliest(values: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives what `tf.math.top_k` gives, several times faster where values are many.

    The largest k values lie in the k chunks whose largest values are largest; to find
    those takes a maximum of each chunk, and only they are searched.

    Args:
      values: float [B, M], M known.
      count: k, at most M.

    Returns:
      (values, int32 places), both [B, k], the largest first; of equals the first.
    """
    size = values.shape[-1]
    num_chunks = -(-size // _CHUNK)
    if num_chunks <= max(count, _CHUNK):
        return tf.math.top_k(values, count)
    missing = num_chunks * _CHUNK - size
    if missing:
        lowest = tf.constant(values.dtype.min, values.dtype)
        values = tf.pad(values, [[0, 0], [0, missing]], constant_values=lowest)
    chunks = tf.reshape(values, [-1, num_chunks, _CHUNK])
    _, kept = tf.math.top_k(tf.reduce_max(chunks, -1), count)
    kept = tf.sort(kept)  # Of equal values the first shall win: order must stay.
    left = tf.gather(chunks, kept, axis=1, batch_dims=1)  # [B, k, 64]
    best, place = tf.math.top_k(tf.reshape(left, [-1, count * _CHUNK]), count)
    chunk = tf.gather(kept, place // _CHUNK, axis=1, batch_dims=1)
    return best, chunk * _CHUNK + place % _CHUNK

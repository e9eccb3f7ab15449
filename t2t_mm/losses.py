"""Losses as (sum, weight), so that averages stay right over uneven batches."""

import tensorflow as tf


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, *, label_smoothing: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives the summed cross entropy of the right labels.

    loss = -(1 - s) log p[label] - s / V * sum over v of log p[v]

    Args:
      logits: float32 [N, V].
      labels: int32 [N].
      label_smoothing: s, the mass given to all labels alike.

    Returns:
      (sum of the losses, number of labels, number of labels ranked first), scalars.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if label_smoothing:
        uniform = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
        losses += label_smoothing * (uniform - losses)
    right = tf.equal(tf.argmax(logits, -1, labels.dtype), labels)
    return (
        tf.reduce_sum(losses),
        tf.cast(tf.size(labels), tf.float32),
        tf.reduce_sum(tf.cast(right, tf.float32)),
    )

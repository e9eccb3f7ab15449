"""Losses as (sum, weight), so that averages stay right over uneven batches."""

import tensorflow as tf


def cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    *,
    label_smoothing: float,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives the summed cross entropy of the right labels.

    loss = -(1 - s) log p[label] - s / V * sum over v of log p[v]

    Args:
      logits: float32 [N, V].
      labels: int32 [N].
      label_smoothing: s, the mass given to all labels alike.
      mask: bool [N], which labels count; None for all.

    Returns:
      (sum of the losses, number of labels, number of labels ranked first), scalars.
    """
    losses, first = _losses_and_first(logits, labels, label_smoothing)
    right = tf.cast(tf.equal(first, labels), tf.float32)
    if mask is None:
        mask = tf.ones_like(labels, tf.bool)
    weights = tf.cast(mask, tf.float32)
    return (
        tf.reduce_sum(losses * weights),
        tf.reduce_sum(weights),
        tf.reduce_sum(right * weights),
    )


def _losses_and_first(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float):
    """Gives the loss of each label, and the label ranked first, [N] each.

    One pass of exponentials, by softmax, for the losses and for their gradient, p less
    the mass of the labels: TensorFlow's own kernel takes three times as long on a CPU.
    The logarithm is taken of the largest probability, which is never small.
    """

    @tf.custom_gradient
    def losses_of(logits):
        p = tf.nn.softmax(logits)
        first = tf.argmax(logits, -1, labels.dtype)
        largest, of_largest, of_label = (
            tf.gather(values, places, batch_dims=1)
            for values, places in ((logits, first), (p, first), (logits, labels))
        )
        log_sum = largest - tf.math.log(of_largest)
        losses = log_sum - of_label
        if label_smoothing:
            uniform = log_sum - tf.reduce_mean(logits, -1)
            losses += label_smoothing * (uniform - losses)

        def gradient(upstream, _):
            rows = tf.range(tf.shape(labels)[0], dtype=labels.dtype)
            wanted = p - label_smoothing / logits.shape[-1] if label_smoothing else p
            return _added_in_place(
                wanted * upstream[:, None],
                tf.stack([rows, labels], 1),
                (label_smoothing - 1.0) * upstream,
            )

        return (losses, first), gradient

    return losses_of(logits)


def _added_in_place(x: tf.Tensor, places: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Gives x [N, V] with values [M] added at places [M, 2], without a copy of x."""
    if x.shape.is_fully_defined():  # for XLA, which knows the other operation only
        return tf.tensor_scatter_nd_add(x, places, values)
    return tf.raw_ops.ScatterNdNonAliasingAdd(input=x, indices=places, updates=values)


def alignment_loss(
    logits: tf.Tensor, mask: tf.Tensor, labels: tf.Tensor, labels_mask: tf.Tensor
) -> tf.Tensor:
    """Gives the connectionist temporal classification loss per label.

    -log of the summed probability of every way to stretch the labels, with blanks
    between, over the positions. Id 0, which pads, stands for the blank.

    Args:
      logits: float32 [B, S, V].
      mask: bool [B, S], real positions first.
      labels: int32 [B, L], above 0.
      labels_mask: bool [B, L].

    Returns:
      A scalar: the sum over examples that have room for their labels, divided by the
      number of labels.

    Source: Graves et al. 2006, section 4, doi.org/10.1145/1143844.1143891; beside
    attention as in Kim et al. 2017, arxiv.org/abs/1609.06773.
    """
    # The kernel wants the blank last.
    logits = tf.roll(logits, -1, -1)
    places = tf.where(labels_mask)
    values = tf.gather_nd(labels, places) - 1
    sparse = tf.SparseTensor(places, values, tf.shape(labels, tf.int64))
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    losses = tf.compat.v1.nn.ctc_loss(
        sparse,
        tf.transpose(logits, [1, 0, 2]),
        lengths,
        ignore_longer_outputs_than_inputs=True,
    )
    count = tf.reduce_sum(tf.cast(labels_mask, tf.float32))
    return tf.reduce_sum(losses) / tf.maximum(count, 1.0)

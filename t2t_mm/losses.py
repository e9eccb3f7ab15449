"""Losses as (sum, weight), so that averages stay right over uneven batches."""

import tensorflow as tf

from t2t_mm.devices import has_only_cpus
from t2t_mm.gradients import custom_gradient

# Of the products with a vocabulary, on a CPU: several run side by side.
NUM_PARTS = 4


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
    return _summed(losses, tf.equal(first, labels), mask)


def linear_cross_entropy(
    x: tf.Tensor,
    matrix: tf.Tensor,
    bias: tf.Tensor,
    labels: tf.Tensor,
    *,
    label_smoothing: float,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives `cross_entropy` of the logits x @ matrix^T + bias.

    With a large vocabulary each pass over [N, V] counts. So the gradient of the logits
    is never made as such: of u * (p - s / V - (1 - s) * one_hot(label)), the upstream
    gradient u scales x, and s / V is taken off the products [N, D] and [V, D].

    Args:
      x: float [N, D], of the dtype to multiply in.
      matrix: float [V, D].
      bias: float [V].
      labels: int32 [N].
      label_smoothing: s, the mass given to all labels alike.
      mask: bool [N], which labels count; None for all.

    Returns:
      (sum of the losses, number of labels, number of labels ranked first), scalars.
    """
    smoothing = label_smoothing
    share = smoothing / matrix.shape[0]

    @custom_gradient
    def losses_of(x, matrix, bias):
        weights = tf.cast(matrix, x.dtype)
        ranked = [
            _ranked(_linear(its_x, weights, bias), its_labels)
            for its_x, its_labels in zip(*map(_parts, (x, labels)), strict=True)
        ]
        first, log_sum, losses = (
            tf.concat([one[i] for one in ranked], 0) for i in (1, 2, 3)
        )
        if smoothing:
            mean = tf.reduce_mean(tf.cast(matrix, tf.float32), 0)
            mean = tf.linalg.matvec(tf.cast(x, tf.float32), mean)
            mean += tf.reduce_mean(tf.cast(bias, tf.float32))
            losses += smoothing * (log_sum - mean - losses)

        def gradient(upstream, _):
            u = upstream[:, None]
            scaled = u * tf.cast(x, tf.float32)
            of_parts = [
                _linear_gradients(
                    one, its_labels, its_u, its_scaled, weights, smoothing
                )
                for one, its_labels, its_u, its_scaled in zip(
                    ranked, *map(_parts, (labels, u, scaled)), strict=True
                )
            ]
            of_x, of_matrix, of_bias = zip(*of_parts, strict=True)
            of_x, of_matrix = tf.concat(of_x, 0), tf.add_n(of_matrix)
            of_bias = tf.add_n(of_bias)
            if smoothing:
                of_x -= share * tf.reduce_sum(tf.cast(matrix, tf.float32), 0)
                of_matrix -= share * tf.reduce_sum(scaled, 0)
                of_bias -= share * tf.reduce_sum(upstream)
            return (
                tf.cast(u * of_x, x.dtype),
                tf.cast(of_matrix, matrix.dtype),
                tf.cast(of_bias, bias.dtype),
            )

        return (losses, first), gradient

    losses, first = losses_of(x, matrix, bias)
    return _summed(losses, tf.equal(first, labels), mask)


def _parts(x: tf.Tensor) -> list[tf.Tensor]:
    """Gives x [N, ...] in parts for the threads of a CPU, small ones for its caches."""
    if not has_only_cpus():
        return [x]
    count = x.shape[0] or tf.shape(x)[0]
    return tf.split(x, [(count + i) // NUM_PARTS for i in range(NUM_PARTS)])


def _linear(x: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Gives the logits [N, V], in float32, of x [N, D] and weights [V, D]."""
    logits = tf.cast(tf.matmul(x, weights, transpose_b=True), tf.float32)
    return tf.nn.bias_add(logits, tf.cast(bias, tf.float32))


def _linear_gradients(ranked, labels, u, scaled, weights, label_smoothing):
    """Gives the gradients of x, weights and bias, less what all labels have alike.

    That of x is still to be scaled by u, the upstream gradient [N, 1].
    """
    p, _, log_sum, _ = ranked
    off = tf.fill(tf.shape(labels), label_smoothing - 1.0)
    # While the losses still need p, it would be a copy that is added to.
    with tf.control_dependencies([log_sum]):
        q = _added_in_place(p, _places_of(labels), off)
    multiplied = tf.cast(q, weights.dtype)
    of_weights = tf.matmul(multiplied, tf.cast(scaled, weights.dtype), transpose_a=True)
    return (
        tf.cast(tf.matmul(multiplied, weights), tf.float32),
        tf.cast(of_weights, tf.float32),
        tf.matmul(u, q, transpose_a=True)[0],
    )


def _summed(losses: tf.Tensor, right: tf.Tensor, mask: tf.Tensor | None):
    """Gives the sums of losses [N] and of right ones, bool [N], where they count."""
    weights = tf.ones_like(losses) if mask is None else tf.cast(mask, tf.float32)
    return (
        tf.reduce_sum(losses * weights),
        tf.reduce_sum(weights),
        tf.reduce_sum(tf.cast(right, tf.float32) * weights),
    )


def _losses_and_first(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float):
    """Gives the loss of each label, and the label ranked first, [N] each."""

    @custom_gradient
    def losses_of(logits):
        p, first, log_sum, losses = _ranked(logits, labels)
        if label_smoothing:
            uniform = log_sum - tf.reduce_mean(logits, -1)
            losses += label_smoothing * (uniform - losses)

        def gradient(upstream, _):
            wanted = p - label_smoothing / logits.shape[-1] if label_smoothing else p
            return _added_in_place(
                wanted * upstream[:, None],
                _places_of(labels),
                (label_smoothing - 1.0) * upstream,
            )

        return (losses, first), gradient

    return losses_of(logits)


def _ranked(logits: tf.Tensor, labels: tf.Tensor):
    """Gives p [N, V]; the label ranked first, log sum exp and -log p[label], [N] each.

    One pass of exponentials, by softmax, for the losses and for their gradient, p less
    the mass of the labels: TensorFlow's own kernel takes three times as long on a CPU.
    The logarithm is taken of the largest probability, which is never small.
    """
    p = tf.nn.softmax(logits)
    first = tf.argmax(logits, -1, labels.dtype)
    largest, of_largest, of_label = (
        tf.gather(values, places, batch_dims=1)
        for values, places in ((logits, first), (p, first), (logits, labels))
    )
    log_sum = largest - tf.math.log(of_largest)
    return p, first, log_sum, log_sum - of_label


def _places_of(labels: tf.Tensor) -> tf.Tensor:
    """Gives where the labels stand in [N, V], [N, 2]."""
    return tf.stack([tf.range(tf.shape(labels)[0], dtype=labels.dtype), labels], 1)


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

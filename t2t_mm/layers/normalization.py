"""Layer normalisation in few operations: called by every block, so its cost counts."""

from collections.abc import Callable

import keras
import tensorflow as tf

from t2t_mm.gradients import custom_gradient


@custom_gradient
def _normalize(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor, epsilon: tf.Tensor):
    """Normalises rows [N, D]. Sums are matrix products: one pass over memory each."""
    averaging = tf.fill([x.shape[-1], 1], 1.0 / x.shape[-1])
    normal, inverse = _unit_variance(x - tf.matmul(x, averaging), epsilon)

    def gradient(upstream: tf.Tensor):
        mean = tf.matmul(upstream, scale[:, None] * averaging)
        dx, dscale, dbias = _gradients(upstream, normal, scale)
        return (dx - mean) * inverse, dscale, dbias, None

    return normal * scale + bias, gradient


@custom_gradient
def _normalize_centred(
    x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor, epsilon: tf.Tensor
):
    """Normalises rows [N, D] of which each has the mean 0.

    Its gradient leaves a row's mean in: the matrix that made the rows have that mean
    takes it out of its own gradient.
    """
    normal, inverse = _unit_variance(x, epsilon)

    def gradient(upstream: tf.Tensor):
        dx, dscale, dbias = _gradients(upstream, normal, scale)
        return dx * inverse, dscale, dbias, None

    return normal * scale + bias, gradient


@custom_gradient
def centred(weights: tf.Tensor):
    """Takes the mean over the last axis off a matrix [C, D] or a bias [D].

    x @ centred(w) + centred(b) is x @ w + b less its mean over D: what a normalisation
    would take off each position, taken off once. So is the mean of the gradient.
    """

    def without_mean(x):
        return x - tf.reduce_mean(x, -1, keepdims=True)

    return without_mean(weights), without_mean


def _unit_variance(x: tf.Tensor, epsilon: tf.Tensor):
    """Gives rows of mean 0 with variance 1, and what they were multiplied by."""
    averaging = tf.fill([x.shape[-1], 1], 1.0 / x.shape[-1])
    inverse = tf.math.rsqrt(tf.matmul(tf.square(x), averaging) + epsilon)
    return x * inverse, inverse


def _gradients(upstream: tf.Tensor, normal: tf.Tensor, scale: tf.Tensor):
    """Gives that of x, not yet times the inverse deviation, of scale and of bias."""
    ones = tf.ones([1, tf.shape(upstream)[0]])
    product = upstream * normal
    inner = tf.matmul(product, scale[:, None] / normal.shape[-1])
    return (
        upstream * scale - normal * inner,
        tf.matmul(ones, product)[0],
        tf.matmul(ones, upstream)[0],
    )


class LayerNorm(keras.layers.Layer):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts it.

    y = (x - mean(x)) / sqrt(var(x) + epsilon) * scale + bias

    Computed in float32 whatever the policy. The gradient is written out, which takes a
    third of the operations that automatic differentiation would, and sums are matrix
    products: on a CPU, memory and small operations cost more than arithmetic.

    Args:
      epsilon: keeps the root away from 0.
      scale: what every channel is scaled by at first; 0 makes a residual branch that
        ends here begin as nothing, so that a deep stack begins as an identity.

    Call arguments:
      x: float [..., D].
      is_centred: the mean over the last axis is known to be 0, and its gradient is
        taken care of; see `centred`.

    Returns:
      Float [..., D], of the layer's compute dtype.

    Source: Ba et al. 2016, section 3, arxiv.org/abs/1607.06450.
    """

    def __init__(self, *, epsilon: float = 1e-6, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.first_scale = keras.initializers.Constant(scale)

    def build(self, input_shape):
        """Makes scale and bias, [D] each."""
        size = (input_shape[-1],)
        # Without autocast: low precision would round them before the cast in `call`.
        self.scale = self.add_weight(
            shape=size, initializer=self.first_scale, name="scale", autocast=False
        )
        self.bias = self.add_weight(
            shape=size, initializer="zeros", name="bias", autocast=False
        )

    def call(self, x, is_centred=False):
        """Gives the normalised tensor."""
        rows = tf.reshape(tf.cast(x, tf.float32), [-1, x.shape[-1]])
        normalize = _normalize_centred if is_centred else _normalize
        y = normalize(
            rows,
            tf.cast(self.scale, tf.float32),
            tf.cast(self.bias, tf.float32),
            tf.constant(self.epsilon),
        )
        return tf.cast(tf.reshape(y, tf.shape(x)), self.compute_dtype)

    def prepared(self, *, is_centred: bool = False) -> Callable[[tf.Tensor], tf.Tensor]:
        """Gives the call for a loop: weights are read now, and no gradient is kept.

        Args:
          is_centred: the mean over the last axis is known to be 0.
        """
        scale = tf.cast(self.scale, tf.float32)
        bias = tf.cast(self.bias, tf.float32)
        dtype = self.compute_dtype

        def normalize(x):
            x = tf.cast(x, tf.float32)
            if not is_centred:
                x -= tf.reduce_mean(x, -1, keepdims=True)
            variance = tf.reduce_mean(tf.square(x), -1, keepdims=True)
            inverse = tf.math.rsqrt(variance + self.epsilon)
            return tf.cast(x * inverse * scale + bias, dtype)

        return normalize

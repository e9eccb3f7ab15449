"""Adam with one op per variable; `optimizers.adam` makes it for the trainer."""

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam, computed by one fused kernel per variable.

    m <- m + (1 - b1) (g - m)
    v <- v + (1 - b2) (g^2 - v)
    x <- x - rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)

    Same numbers and same state as `keras.optimizers.Adam`, but a graph a third of its
    size: with hundreds of variables and one graph per problem, the plain form takes
    longer to trace than forward and backward together (benchmarks/optimizer.py).
    t counts all updates; a variable without gradient is not touched in any way.

    Source: Kingma and Ba 2015, end of section 2, arxiv.org/abs/1412.6980.
    """

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Updates the variables and the count of updates.

        Args:
          grads: dense gradients, or None where a variable keeps still.
          trainable_variables: the variables, in the order of the gradients.
        """
        step = tf.cast(self.iterations, tf.float32) + 1.0
        self._shared = {
            "beta1": tf.constant(self.beta_1, tf.float32),
            "beta2": tf.constant(self.beta_2, tf.float32),
            "beta1_power": tf.pow(float(self.beta_1), step),
            "beta2_power": tf.pow(float(self.beta_2), step),
            "epsilon": tf.constant(self.epsilon, tf.float32),
        }
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its two moments in place."""
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            lr=learning_rate,
            grad=gradient,
            **self._shared,
        )

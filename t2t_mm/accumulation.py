"""Gradients of several batches, added up or projected, then applied as one update.

`train_step` uses it where hparams ask for `gradient_accumulation`. Between updates the
sums are empty, so that checkpoints hold none of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from t2t_mm import optimizers


def projection_weights(gram: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Gives w so that sum over q of w[q] * g[q] is PCGrad's sum of gradients.

    g'[p] = g[p], then for each q != p in order: if g'[p] . g[q] < 0, then
    g'[p] <- g'[p] - (g'[p] . g[q]) / |g[q]|^2 * g[q]; the sum is over g'[p]

    Every g'[p] is a sum of the g[q], so the products of these are all that is needed.

    Args:
      gram: float32 [P, P], g[p] . g[q].
      order: int32 [P], a permutation.

    Returns:
      float32 [P].

    Source: Yu et al. 2020, algorithm 1, arxiv.org/abs/2001.06782. We differ: one random
    order in each update, not one for each p.
    """
    size = gram.shape[0]
    shares = tf.eye(size)  # [P, P]: g'[p] = sum over q of shares[p, q] * g[q]
    for i in range(size):
        q = order[i]
        itself = tf.one_hot(q, size)
        products = tf.linalg.matvec(shares, gram[:, q])  # g'[p] . g[q]
        lengths = tf.math.divide_no_nan(tf.minimum(products, 0.0), gram[q, q])
        shares -= (lengths * (1.0 - itself))[:, None] * itself[None]
    return tf.reduce_sum(shares, 0)


class Accumulator:
    """Sums of gradients, and the update that uses them up.

    update = sum over batches of g / number of batches, clipped as a whole

    Only variables that got a gradient from one of the batches are updated.

    Args:
      state: its model is trained, by its optimizer.
      num_batches: batches of an update.
      clip_norm: largest global norm of the update's gradient; 0 for none.
      is_projecting: keep a sum for each problem and project them (PCGrad); takes a
        copy of the gradient for each batch of an update.
      distribution: the replicas; each keeps the same sums.
    """

    def __init__(
        self,
        state: Any,
        *,
        num_batches: int,
        clip_norm: float,
        is_projecting: bool,
        distribution: Any,
    ):
        self._optimizer = state.optimizer
        self._num_batches = num_batches
        self._clip_norm = clip_norm
        self._distribution = distribution
        self._num_slots = num_batches if is_projecting else 1
        commands = state.model.commands.tokens.values()
        self._commands = {variable.path for variable in commands}
        self._variables = {v.path: v for v in state.model.trainable_variables}
        with distribution.scope():
            self._sums = {
                path: tf.Variable(
                    tf.zeros([self._num_slots, *variable.shape]),
                    trainable=False,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for path, variable in self._variables.items()
            }
        self._compiled: dict[Any, Callable] = {}
        self._slots: dict[str, int] = {}
        self._touched: set[str] = set()

    def slot_of(self, problem_name: str) -> tf.Tensor:
        """Gives the number of the sum that a problem's gradients belong to."""
        if self._num_slots == 1:
            return tf.constant(0)
        return tf.constant(self._slots.setdefault(problem_name, len(self._slots)))

    def add(
        self, variables: Sequence[Any], gradients: Sequence[tf.Tensor], slot: tf.Tensor
    ) -> None:
        """Adds gradients to the sums of a slot; called inside the compiled step."""
        for variable, gradient in zip(variables, gradients, strict=True):
            # By handle: on each replica its own copy, all of them alike.
            tf.raw_ops.ResourceScatterAdd(
                resource=self._sums[variable.path].handle,
                indices=slot,
                updates=tf.cast(gradient, tf.float32),
            )

    def add_command(self, variable: Any, gradient: tf.Tensor, slot: tf.Tensor) -> None:
        """Adds the gradient of a command."""
        compiled = self._compile(
            ("add", variable.path),
            lambda gradient, slot: self.add([variable], [gradient], slot),
            tf.TensorSpec(gradient.shape, tf.float32),
            tf.TensorSpec([], tf.int32),
        )
        compiled(gradient, slot)
        self._touched.add(variable.path)

    def touch(self, paths: Sequence[str]) -> None:
        """Notes which variables the next update is about."""
        self._touched.update(paths)

    def apply(self) -> None:
        """Updates what was touched, and empties the sums."""
        square = [self._num_slots, self._num_slots]
        products = tf.zeros(square)
        commands = sorted(self._touched & self._commands)
        for path in commands:
            products += self._compile(
                ("products", path), lambda path=path: self._products([path])
            )()
        body = tuple(sorted(self._touched - self._commands))
        weights = self._compile(
            body,
            lambda products: self._update_body(body, products),
            tf.TensorSpec(square, tf.float32),
        )(products)
        for path in commands:
            self._compile(
                ("update", path),
                lambda weights, path=path: self._update_command(path, weights),
                tf.TensorSpec([self._num_slots], tf.float32),
            )(weights)
        self._slots.clear()
        self._touched.clear()

    def _compile(self, key: Any, function: Callable, *specs: tf.TensorSpec) -> Callable:
        if key not in self._compiled:
            self._compiled[key] = self._distribution.compile_update(function, *specs)
        return self._compiled[key]

    def _products(self, paths: Sequence[str]) -> tf.Tensor:
        """Gives the products of the slots' gradients with each other, [P, P]."""
        total = tf.zeros([self._num_slots, self._num_slots])
        for path in paths:
            flat = tf.reshape(self._sums[path], [self._num_slots, -1])
            total += tf.matmul(flat, flat, transpose_b=True)
        return total

    def _update_body(self, paths: Sequence[str], products: tf.Tensor) -> tf.Tensor:
        """Updates all but the commands; gives what each slot counts, [P]."""
        products += self._products(paths)
        weights = tf.ones([1])
        if self._num_slots > 1:
            seed = tf.stack([tf.cast(self._optimizer.iterations.value, tf.int32), 0])
            shuffle = tf.random.experimental.stateless_shuffle
            order = shuffle(tf.range(self._num_slots), seed)
            weights = projection_weights(products, order)
        weights /= self._num_batches
        squared = tf.tensordot(weights, tf.linalg.matvec(products, weights), 1)
        norm = tf.sqrt(tf.maximum(squared, 0.0))
        if self._clip_norm:
            weights *= self._clip_norm / tf.maximum(norm, self._clip_norm)
        variables = [self._variables[path] for path in paths]
        gradients = [self._take(path, weights) for path in paths]
        optimizers.apply_update(self._optimizer, gradients, variables)
        return weights

    def _update_command(self, path: str, weights: tf.Tensor) -> None:
        gradient = self._take(path, weights)
        optimizers.apply_to_one_more(self._optimizer, gradient, self._variables[path])

    def _take(self, path: str, weights: tf.Tensor) -> tf.Tensor:
        """Gives the weighted sum of the slots' gradients, and empties them."""
        sums = self._sums[path]
        values = tf.convert_to_tensor(sums)
        taken = tf.tensordot(weights, values, 1)
        with tf.control_dependencies([taken]):
            tf.raw_ops.AssignVariableOp(
                resource=sums.handle, value=tf.zeros_like(values)
            )
        return tf.cast(taken, self._variables[path].dtype)

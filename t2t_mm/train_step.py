"""One update of the network on one problem's batch, compiled once per problem.

The trainer makes one with `make_train_step` for each problem, over shared variables.
Written for any number of replicas: losses are (sum, weight), summed over replicas
before they are divided, gradients are summed, then clipped, then applied.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from t2t_mm import optimizers
from t2t_mm.training_state import TrainingState

NUMBERS = (
    "loss",  # what was minimised: loss_sum / weight + auxiliary_loss
    "loss_sum",
    "weight",
    "correct",
    "auxiliary_loss",
    "gradient_norm",
    "filled",  # share of the batch's positions that are real, over both features
)

Batch = Mapping[str, tf.Tensor]
StepOutput = tuple[tf.Tensor, Mapping[str, tf.Tensor]]


def make_train_step(
    state: TrainingState,
    problem_name: str,
    signature: Mapping[str, tf.TensorSpec],
    clip_norm: float,
) -> Callable[[Batch], StepOutput]:
    """Gives the compiled update for one problem.

    loss = sum of losses / sum of weights + auxiliary losses. Only variables that got a
    gradient are updated: a gradient of zero would still move the others through the
    optimizer's momentum.

    Args:
      state: its model is trained, by its optimizer.
      problem_name: which of the model's problems.
      signature: shapes of the batch with free dimensions, so that it is traced once.
      clip_norm: largest global norm of the gradients; 0 for none.

    Returns:
      f(batch) -> (float32 [len(NUMBERS)], the numbers of the step in that order;
      float32 [E] by MoE layer, the use of its experts).
    """
    model, optimizer = state.model, state.optimizer
    variables = list(model.trainable_variables)
    tensors = [variable.value for variable in variables]

    @tf.function(input_signature=[dict(signature)], autograph=False)
    def train_step(batch: Batch) -> StepOutput:
        with tf.GradientTape() as tape:
            losses = model.losses_of(problem_name, batch, training=True)
            weight = sum_over_replicas(losses["weight"])
            loss = losses["loss_sum"] / tf.maximum(weight, 1.0)
            loss += losses["auxiliary_loss"] / num_replicas()
        used, gradients = dense_gradients(variables, tape.gradient(loss, tensors))
        gradients = [sum_over_replicas(gradient) for gradient in gradients]
        gradients, norm = optimizers.clip_by_global_norm(gradients, clip_norm)
        optimizer.apply(gradients, used)
        numbers = [
            sum_over_replicas(loss),
            sum_over_replicas(losses["loss_sum"]),
            weight,
            sum_over_replicas(losses["correct"]),
            losses["auxiliary_loss"],
            norm,
            filled_share(batch),
        ]
        return tf.stack([tf.cast(n, tf.float32) for n in numbers]), losses.get(
            "expert_use", {}
        )

    return train_step


def dense_gradients(
    variables: Sequence[Any], gradients: Sequence[Any]
) -> tuple[list[Any], list[tf.Tensor]]:
    """Leaves out the variables without a gradient; makes sparse gradients dense.

    Returns:
      (the variables that got one, their gradients).

    Raises:
      ValueError: if none got one.
    """
    pairs = [
        (variable, tf.convert_to_tensor(gradient))
        for variable, gradient in zip(variables, gradients, strict=True)
        if gradient is not None
    ]
    if not pairs:
        raise ValueError(
            f"None of {len(variables)} variables got a gradient; expected the loss to "
            "depend on some. Check losses_of of the model."
        )
    return [variable for variable, _ in pairs], [gradient for _, gradient in pairs]


def filled_share(batch: Batch) -> tf.Tensor:
    """Gives the share of real positions, the mean over inputs and targets."""
    shares = [
        tf.reduce_mean(tf.cast(batch[name], tf.float32))
        for name in ("inputs_mask", "targets_mask")
    ]
    return tf.add_n(shares) / len(shares)


def num_replicas() -> int:
    """Gives how many replicas run this step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(tensor: tf.Tensor) -> tf.Tensor:
    """Gives the sum of a tensor over all replicas; itself where there is one."""
    if num_replicas() == 1:
        return tensor
    return tf.distribute.get_replica_context().all_reduce("SUM", tensor)

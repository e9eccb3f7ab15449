"""One update of the network on one problem's batch, compiled once per kind of data.

The trainer makes one `TrainSteps` for a run. Problems whose inputs and targets are the
same features share a compiled step: what sets them apart is the command, which is an
argument. Written for any number of replicas: the loss of each is its part of the mean
over the whole batch; gradients are added up in one exchange, then each clips and
applies them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from t2t_mm import optimizers
from t2t_mm.accumulation import Accumulator
from t2t_mm.configuration import HParams
from t2t_mm.distribution import ONE_DEVICE, Distribution
from t2t_mm.replicas import sum_over_replicas
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
StepOutput = tuple[tf.Tensor, Mapping[str, Mapping[str, tf.Tensor]]]
Signature = Mapping[str, tf.TensorSpec]


class TrainSteps:
    """The compiled updates of a run.

    loss = sum of losses / sum of weights + auxiliary losses. Only variables that got a
    gradient are updated: a gradient of zero would still move the others through the
    optimizer's momentum. So a step moves the command of its problem and no other,
    although it is compiled once for all problems with the same pair of features: the
    command's vector goes in, its gradient comes out, and a second compiled function of
    a few operations gives it to the one variable.

    With the model's hparam `gradient_accumulation` above 1 only every so many calls
    make an update (`accumulation`); `loss_weights` and `loss_balancing` scale losses
    before their gradient is taken, and no number that is given back.

    Args:
      state: its model is trained, by its optimizer.
      signatures: by problem, shapes of its batches with free dimensions, so that a
        step is traced once.
      clip_norm: largest global norm of the gradients; 0 for none.
      distribution: the replicas that share each batch.
    """

    def __init__(
        self,
        state: TrainingState,
        signatures: Mapping[str, Signature],
        clip_norm: float,
        distribution: Distribution = ONE_DEVICE,
    ):
        self._state = state
        self._distribution = distribution
        self._signatures = signatures
        self._clip_norm = clip_norm
        self._compiled: dict[Any, tuple[Callable, list[str]]] = {}
        self._command_updates: dict[str, Callable] = {}
        hparams = state.model.hparams
        check_updates(hparams, signatures)
        self._loss_weights = dict(hparams.loss_weights)
        self.batches_per_update = hparams.gradient_accumulation
        self._num_waiting = 0
        self._accumulator = None
        if self.batches_per_update > 1:
            self._accumulator = Accumulator(
                state,
                num_batches=self.batches_per_update,
                clip_norm=clip_norm,
                is_projecting=hparams.gradient_conflicts == "project",
                distribution=distribution,
            )

    def __call__(self, problem_name: str, batch: Batch) -> StepOutput:
        """Updates the network on a batch of a problem.

        Returns:
          (float32 [len(NUMBERS)], the numbers of the step in that order; by MoE layer,
          the statistics of its experts).
        """
        model = self._state.model
        problem = model.problems[problem_name]
        token = model.commands.tokens[problem.command]
        # Frozen or not: a gradient that nobody takes must not count in the norm.
        key = (problem.inputs, problem.targets, token.trainable)
        if key not in self._compiled:
            self._compiled[key] = _compile_step(
                self._state,
                problem_name,
                self._signatures[problem_name],
                token.trainable,
                self._clip_norm,
                self._distribution,
                self._accumulator,
            )
        step, used = self._compiled[key]
        scale = self._state.loss_scale(problem_name)
        scale *= self._loss_weights.get(problem_name, 1.0)
        slot = self._accumulator.slot_of(problem_name) if self._accumulator else 0
        numbers, experts, gradient = step(
            batch, tf.convert_to_tensor(token.value), scale, tf.constant(slot)
        )
        if gradient is not None:
            self._pass_on(token, problem.command, gradient, slot)
        if self._accumulator:
            self._accumulator.touch(used)
            self._num_waiting += 1
            if self._num_waiting == self.batches_per_update:
                self._accumulator.apply()
                self._num_waiting = 0
        self._state.note_loss(problem_name, numbers)
        return numbers, experts

    def _pass_on(
        self, token: Any, command: str, gradient: tf.Tensor, slot: Any
    ) -> None:
        """Gives the one command that was used its gradient."""
        if self._accumulator:
            self._accumulator.add_command(token, gradient, slot)
            return
        if command not in self._command_updates:
            update = _compile_command_update(self._state, token, self._distribution)
            self._command_updates[command] = update
        self._command_updates[command](gradient)

    @property
    def num_compiled(self) -> int:
        """How many steps were compiled so far."""
        return len(self._compiled)


def _compile_step(
    state: TrainingState,
    problem_name: str,
    signature: Signature,
    trains_command: bool,
    clip_norm: float,
    distribution: Distribution,
    accumulator: Accumulator | None,
) -> tuple[Callable, list[str]]:
    """Gives the step, and the paths of what it trains, filled in when it is traced.

    The step is f(batch, token, scale of the loss, slot of the sums) -> (numbers,
    experts' statistics, the token's gradient, or None where the token is frozen).
    """
    model, optimizer = state.model, state.optimizer
    commands = {variable.path for variable in model.commands.tokens.values()}
    variables = [v for v in model.trainable_variables if v.path not in commands]
    tensors = [variable.value for variable in variables]
    depth = model.hparams.hidden_size
    paths: list[str] = []

    def train_step(
        batch: Batch,
        share: tf.Tensor,
        token: tf.Tensor,
        scale: tf.Tensor,
        slot: tf.Tensor,
    ) -> tuple:
        """One replica's rows; `share` is 0 where they only fill a place, else 1."""
        with tf.GradientTape() as tape:
            tape.watch(token)
            losses = model.losses_of(problem_name, batch, training=True, token=token)
            weight = losses["weight"] * share
            auxiliary = losses["auxiliary_loss"] * weight
            # Divided here, so that no gradient has to be.
            [whole_weight] = sum_over_replicas([weight])
            divisor = tf.maximum(whole_weight, 1.0)
            loss = (scale * losses["loss_sum"] * share + auxiliary) / divisor
        used, gradients = dense_gradients(
            [*variables, token], tape.gradient(loss, [*tensors, token])
        )
        if used[-1] is token and not trains_command:
            used, gradients = used[:-1], gradients[:-1]
        real, size = count_positions(batch)
        scalars = [
            losses["loss_sum"] * share,
            losses["correct"] * share,
            auxiliary,
            real * share,
            size * share,
        ]
        scalars, *gradients = sum_over_replicas([tf.stack(scalars), *gradients])
        loss_sum, correct, auxiliary, real, size = tf.unstack(scalars)
        gradients, norm = optimizers.clip_by_global_norm(
            gradients, 0.0 if accumulator else clip_norm
        )
        of_token = gradients.pop() if used and used[-1] is token else None
        used = used[: len(gradients)]
        paths[:] = [variable.path for variable in used]
        if accumulator:
            accumulator.add(used, gradients, slot)
        else:
            optimizers.apply_update(optimizer, gradients, used)
        numbers = {
            "loss": (loss_sum + auxiliary) / divisor,
            "loss_sum": loss_sum,
            "weight": whole_weight,
            "correct": correct,
            "auxiliary_loss": auxiliary / divisor,
            "gradient_norm": norm,
            "filled": real / size,
        }
        numbers = tf.stack([numbers[name] for name in NUMBERS])
        return numbers, losses.get("experts", {}), of_token

    # Compiled once: the next problem's command must not trace it again.
    scalars = tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int32)
    step = distribution.compile(
        train_step, signature, tf.TensorSpec([depth], tf.float32), *scalars
    )
    return step, paths


def _compile_command_update(
    state: TrainingState, token: Any, distribution: Distribution
) -> Callable:
    """Gives f(gradient), which updates the one command that is left to update."""

    def update(gradient: tf.Tensor) -> None:
        optimizers.apply_to_one_more(state.optimizer, gradient, token)

    return distribution.compile_update(update, tf.TensorSpec(token.shape, tf.float32))


def check_updates(hparams: HParams, problems: Collection[str]) -> None:
    """Checks that the updates which hparams ask for can be made.

    Args:
      hparams: of the run.
      problems: names of its problems.

    Raises:
      ValueError: if a weight is of no problem of the run or not positive, or there is
        nothing to project.
    """
    if hparams.gradient_conflicts == "project" and hparams.gradient_accumulation == 1:
        raise ValueError(
            "hparam 'gradient_conflicts' is project with gradient_accumulation 1; "
            "expected 2 or more batches in an update, or there is nothing to "
            "project. Set gradient_accumulation=2."
        )
    names = [name for name, _ in hparams.loss_weights]
    if len(set(names)) < len(names):
        raise ValueError(
            f"hparam 'loss_weights' names {', '.join(names)}; expected each problem "
            "once. Leave one weight of each."
        )
    for name, weight in hparams.loss_weights:
        if name not in problems or weight <= 0:
            raise ValueError(
                f"hparam 'loss_weights' has ({name}, {weight:g}); expected problems of "
                f"the run ({', '.join(problems)}) and weights above 0. Correct it."
            )


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


def count_positions(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives (real positions, all positions), each feature counted in rows.

    Counted in rows, a feature with many positions weighs as much as one with few.
    """
    real = size = tf.constant(0.0)
    for name in ("inputs_mask", "targets_mask"):
        rows = tf.cast(tf.shape(batch[name])[0], tf.float32)
        real += tf.reduce_mean(tf.cast(batch[name], tf.float32)) * rows
        size += rows
    return real, size

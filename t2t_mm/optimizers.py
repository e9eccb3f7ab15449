"""Optimizers by name, and the clipping that comes before them.

The trainer calls `make_optimizer` once, on every trainable variable of the model; the
compiled step hands it only the variables that got a gradient. Registered functions
take (hparams, learning_rate) and return a Keras optimizer. Imports no TensorFlow at the
top, so that the names can be listed at once.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from t2t_mm import registry
from t2t_mm.configuration import HParams
from t2t_mm.registry import register_optimizer

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# What some optimizers read and others do not.
SETTINGS = ("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay")


@register_optimizer
def adam(hparams: HParams, learning_rate: Any) -> "keras.optimizers.Optimizer":
    """Adam, fused: one op per variable (Kingma and Ba 2015)."""
    from t2t_mm.fused_adam import FusedAdam

    if hparams.weight_decay:
        raise ValueError(
            f"hparam 'weight_decay' is {hparams.weight_decay} with optimizer 'adam'; "
            "expected 0, since adam does not decay. Set optimizer=adamw."
        )
    return FusedAdam(learning_rate, **_adam_settings(hparams))


@register_optimizer
def adamw(hparams: HParams, learning_rate: Any) -> "keras.optimizers.Optimizer":
    """Adam, fused, with decoupled decay of matrices (Loshchilov and Hutter 2019)."""
    from t2t_mm.fused_adam import FusedAdam

    return FusedAdam(
        learning_rate,
        weight_decay=hparams.weight_decay or None,
        **_adam_settings(hparams),
    )


@register_optimizer
def adafactor(hparams: HParams, learning_rate: Any) -> "keras.optimizers.Optimizer":
    """Adafactor: second moments by row and column (Shazeer and Stern 2018)."""
    import keras

    return keras.optimizers.Adafactor(
        learning_rate,
        relative_step=False,
        weight_decay=hparams.weight_decay or None,
    )


@register_optimizer
def lamb(hparams: HParams, learning_rate: Any) -> "keras.optimizers.Optimizer":
    """LAMB: Adam with a trust ratio per variable (You et al. 2020)."""
    import keras

    return keras.optimizers.Lamb(
        learning_rate,
        weight_decay=hparams.weight_decay or None,
        **_adam_settings(hparams),
    )


@register_optimizer
def lion(hparams: HParams, learning_rate: Any) -> "keras.optimizers.Optimizer":
    """Lion: the sign of a momentum (Chen et al. 2023); a third of Adam's rate."""
    import keras

    return keras.optimizers.Lion(
        learning_rate,
        beta_1=hparams.adam_beta1,
        beta_2=hparams.adam_beta2,
        weight_decay=hparams.weight_decay or None,
    )


@register_optimizer
def momentum(hparams: HParams, learning_rate: Any) -> "keras.optimizers.Optimizer":
    """Gradient descent with momentum `adam_beta1`."""
    import keras

    return keras.optimizers.SGD(
        learning_rate,
        momentum=hparams.adam_beta1,
        weight_decay=hparams.weight_decay or None,
    )


def _adam_settings(hparams: HParams) -> dict[str, float]:
    return {
        "beta_1": hparams.adam_beta1,
        "beta_2": hparams.adam_beta2,
        "epsilon": hparams.adam_epsilon,
    }


def unbuilt_optimizer(
    hparams: HParams, train_steps: int
) -> "keras.optimizers.Optimizer":
    """Gives the optimizer of a set, without variables.

    Args:
      hparams, train_steps: as of `make_optimizer`.

    Raises:
      UnknownNameError, ValueError: as `make_optimizer`, which needs a network for it.
    """
    from t2t_mm.schedules import OptimizerSchedule, make_schedule

    make = registry.optimizers.get(hparams.optimizer)
    rate = OptimizerSchedule(make_schedule(hparams, train_steps))
    noted, read = _noting_reads(hparams)
    optimizer = make(noted, rate)
    _refuse_unread(hparams, read)
    return optimizer


def _noting_reads(hparams: HParams) -> tuple[HParams, set[str]]:
    """Gives a copy of hparams, and the names of what was read of it so far."""
    read: set[str] = set()

    class Noting(type(hparams)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    noting = object.__new__(Noting)
    noting.__dict__.update(vars(hparams))
    return noting, read


def _refuse_unread(hparams: HParams, read: set[str]) -> None:
    """Refuses settings that the optimizer did not read and that are not as always."""
    defaults = {field.name: field.default for field in dataclasses.fields(hparams)}
    unread = [
        name
        for name in SETTINGS
        if name not in read and getattr(hparams, name) != defaults[name]
    ]
    if unread:
        given = ", ".join(f"{name}={getattr(hparams, name):g}" for name in unread)
        remedy = ",".join(f"{name}={defaults[name]:g}" for name in unread)
        raise ValueError(
            f"optimizer={hparams.optimizer} came with {given}; expected the default, "
            f"since nothing reads it then. Set {remedy}, or another optimizer."
        )


def make_optimizer(
    hparams: HParams, variables: Sequence["keras.Variable"], train_steps: int
) -> "keras.optimizers.Optimizer":
    """Gives the optimizer of a set, built on all variables.

    Args:
      hparams: `optimizer` and what it needs, and the schedule.
      variables: every trainable variable of the model.
      train_steps: the end of decays where `decay_steps` is 0.

    Raises:
      UnknownNameError: if no optimizer or schedule factor has the name.
      ValueError: if the settings contradict each other, or one of `SETTINGS` is not
        its default and the optimizer does not read it.
    """
    optimizer = unbuilt_optimizer(hparams, train_steps)
    if optimizer.weight_decay:
        others = [variable for variable in variables if not is_matrix(variable)]
        optimizer.exclude_from_weight_decay(var_list=others)
    optimizer.build(list(variables))
    # The step sums gradients over replicas itself, before it clips them; Keras would
    # sum them a second time.
    optimizer._all_reduce_sum_gradients = list
    return optimizer


def is_matrix(variable: "keras.Variable") -> bool:
    """Tells whether decay is for a variable: it maps vectors, or is a table of them.

    Biases are none, those of experts, [E, 1, F], included; nor is what has one axis
    only beside those of length 1.
    """
    has_axes = sum(length > 1 for length in variable.shape) > 1
    return has_axes and "bias" not in variable.path.rpartition("/")[2]


def apply_update(
    optimizer: "keras.optimizers.Optimizer",
    gradients: Sequence["tf.Tensor"],
    variables: Sequence["keras.Variable"],
) -> None:
    """Makes an update, and counts it even if no variable takes part yet.

    Keras does not count an update of none; `apply_to_one_more` relies on the count.
    """
    if variables:
        optimizer.apply(gradients, variables)
    else:
        optimizer.iterations.assign_add(1)


def apply_to_one_more(
    optimizer: "keras.optimizers.Optimizer",
    gradient: "tf.Tensor",
    variable: "keras.Variable",
) -> None:
    """Lets one more variable take part in the update that was just made.

    Args:
      optimizer: built on the variable, too.
      gradient: of the variable, clipped with the others.
      variable: was left out of that update.
    """
    # The update was counted already: rate and bias correction are that one's.
    optimizer.iterations.assign_sub(1)
    optimizer.apply([gradient], [variable])


def clip_by_global_norm(
    gradients: Sequence["tf.Tensor"], clip_norm: float
) -> tuple[list["tf.Tensor"], "tf.Tensor"]:
    """Scales all gradients together so that their norm is at most `clip_norm`.

    norm = sqrt(sum over all entries of g^2)
    g <- g * min(1, clip_norm / norm)

    Args:
      gradients: dense gradients, of any shapes.
      clip_norm: the bound; 0 for none.

    Returns:
      (the gradients, their norm before that, float32 scalar).

    Source: Pascanu et al. 2013, algorithm 1, arxiv.org/abs/1211.5063.
    """
    import tensorflow as tf

    gradients = list(gradients)
    norm = tf.linalg.global_norm(gradients)
    if not clip_norm:
        return gradients, norm

    def scaled():
        scale = clip_norm / norm
        return [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]

    # Within the bound there is no pass over them. A norm that is no number is not
    # within, and spoils all.
    return tf.cond(norm <= clip_norm, lambda: gradients, scaled), norm

"""Learning rates: a step's number in, a rate out; pure, so usable inside a graph.

A schedule is written as in Tensor2Tensor, factors joined by `*`:
"constant*linear_warmup*rsqrt_decay". The trainer makes it from `HParams` with
`make_schedule`; the optimizers call it through `OptimizerSchedule`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from t2t_mm.configuration import HParams
from t2t_mm.registry import Registry, UnknownNameError, nearest_names

Rate = Callable[[tf.Tensor], tf.Tensor]

factors = Registry("schedule factor")

REPLACED = {
    "cosdecay": "cosine_decay",
    "single_cycle_cos_decay": "cosine_decay",
    "multi_cycle_cos_decay": "cosine_decay",
    "rsqrt_normalized_decay": "rsqrt_decay, which is normalised here",
    "legacy": "noam",
    "none": "constant",
    "exp": "exp_decay",
    "piecewise": "linear_decay",
    "cosine": "cosine_decay",
    "cyclelinear10x": "linear_decay",
    "sqrt": "rsqrt_decay",
}
EXP_DECAY_END = 0.01


@dataclass(frozen=True)
class Horizon:
    """What a factor may know besides the step.

    Args:
      learning_rate: the set's learning rate.
      warmup_steps: steps of warm-up.
      decay_steps: the step at which decays have ended.
      hidden_size: width D of the model.
    """

    learning_rate: float
    warmup_steps: int
    decay_steps: int
    hidden_size: int


def _progress(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """Share of the way from the end of the warm-up to the end of the decay, 0 to 1."""
    span = max(horizon.decay_steps - horizon.warmup_steps, 1)
    return tf.clip_by_value((step - horizon.warmup_steps) / span, 0.0, 1.0)


@factors.register
def constant(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """learning_rate, at every step."""
    return tf.constant(horizon.learning_rate, tf.float32)


@factors.register
def linear_warmup(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """min(1, step / warmup_steps)."""
    return tf.minimum(1.0, step / max(horizon.warmup_steps, 1))


@factors.register
def rsqrt_decay(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """sqrt(warmup_steps / max(step, warmup_steps)): 1 until the warm-up ends.

    Tensor2Tensor's factor of this name lacks the numerator; with it, `learning_rate`
    is the peak whatever the warm-up.
    """
    start = float(max(horizon.warmup_steps, 1))
    return tf.sqrt(start / tf.maximum(step, start))


@factors.register
def linear_decay(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """Falls from 1 at warmup_steps to 0 at decay_steps, in a straight line."""
    return 1.0 - _progress(step, horizon)


@factors.register
def cosine_decay(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """Falls from 1 at warmup_steps to 0 at decay_steps, as half a cosine.

    Source: Loshchilov and Hutter 2017, equation 5 with one period,
    arxiv.org/abs/1608.03983.
    """
    return 0.5 * (1.0 + tf.cos(math.pi * _progress(step, horizon)))


@factors.register
def exp_decay(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """Falls from 1 at warmup_steps to 0.01 at decay_steps, by equal shares a step."""
    return tf.pow(EXP_DECAY_END, _progress(step, horizon))


_DECAYS = {linear_decay, cosine_decay, exp_decay}


@factors.register
def rsqrt_hidden_size(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """hidden_size ** -0.5."""
    return tf.constant(horizon.hidden_size**-0.5, tf.float32)


@factors.register
def noam(step: tf.Tensor, horizon: Horizon) -> tf.Tensor:
    """learning_rate * D ** -0.5 * min(step ** -0.5, step * warmup_steps ** -1.5).

    Source: Vaswani et al. 2017, equation 3, arxiv.org/abs/1706.03762; their factor is
    learning_rate = 1.
    """
    warmup = float(max(horizon.warmup_steps, 1))
    shape = tf.minimum(tf.math.rsqrt(step), step * warmup**-1.5)
    return horizon.learning_rate * horizon.hidden_size**-0.5 * shape


def parse_schedule(text: str) -> list[Callable]:
    """Gives the factors of a schedule.

    Args:
      text: factor names joined by `*`.

    Raises:
      UnknownNameError: if a factor is not known; says what replaces a name of
        Tensor2Tensor's, or the nearest three.
      ValueError: if the text or a factor is empty.

    Example:
      >>> [f.__name__ for f in parse_schedule("constant * linear_warmup")]
      ['constant', 'linear_warmup']
    """
    names = [part.strip() for part in text.split("*")]
    if not all(names):
        raise ValueError(
            f"hparam 'schedule' is {text!r}; expected factors joined by *. "
            "Write for example constant*linear_warmup*rsqrt_decay."
        )
    for name in names:
        if name not in factors:
            hint = nearest_names(name, factors.names())
            if name in REPLACED:
                hint = f"Use {REPLACED[name]}."
            raise UnknownNameError(
                f"No schedule factor is called '{name}' (hparam 'schedule' is "
                f"{text!r}). {hint}"
            )
    return [factors.get(name) for name in names]


def make_schedule(hparams: HParams, train_steps: int) -> Rate:
    """Gives the learning rate as a pure function of the step.

    Args:
      hparams: `schedule`, `learning_rate`, `warmup_steps`, `decay_steps`,
        `hidden_size`.
      train_steps: the end of decays where `decay_steps` is 0.

    Returns:
      f(step), step counted from 1, number or scalar tensor, to a float32 scalar.

    Raises:
      UnknownNameError, ValueError: as `parse_schedule`; or if a decay ends before it
        begins.
    """
    chosen = parse_schedule(hparams.schedule)
    if 0 < hparams.decay_steps <= hparams.warmup_steps and _DECAYS & set(chosen):
        raise ValueError(
            f"decay_steps={hparams.decay_steps} came with warmup_steps="
            f"{hparams.warmup_steps} and schedule {hparams.schedule!r}, whose decay "
            "begins where the warm-up ends; expected more steps than those of the "
            "warm-up. Raise decay_steps, or set it to 0 for the end of the training."
        )
    horizon = Horizon(
        learning_rate=hparams.learning_rate,
        warmup_steps=hparams.warmup_steps,
        decay_steps=hparams.decay_steps or train_steps,
        hidden_size=hparams.hidden_size,
    )

    def rate(step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        product = chosen[0](step, horizon)
        for factor in chosen[1:]:
            product = product * factor(step, horizon)
        return product

    return rate


class OptimizerSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A rate as Keras optimizers want it: they count updates from 0, we from 1.

    Args:
      rate: what `make_schedule` gives.
    """

    def __init__(self, rate: Rate):
        super().__init__()
        self.rate = rate

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Gives the rate of the update after `step` updates."""
        return self.rate(tf.cast(step, tf.float32) + 1.0)

    def get_config(self) -> dict:
        """Refuses: a run keeps its schedule in hparams.json."""
        raise TypeError(
            "A schedule cannot be made into a Keras configuration; expected to find "
            "it in the run's hparams.json. Use make_schedule(hparams, train_steps)."
        )

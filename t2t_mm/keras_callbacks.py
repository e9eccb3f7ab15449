"""Keras callbacks around our own loop: `t2t_mm.train(..., callbacks=[...])`.

An "epoch" is what lies between two evaluations; its logs are the mean loss and, as
"val_...", the evaluation. Callbacks see the network and the optimizer as a compiled
Keras model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from t2t_mm.train_step import NUMBERS, StepOutput
from t2t_mm.training_state import TrainingState


class _AsKerasModel(keras.Model):
    """What callbacks know: `optimizer`, `stop_training`, weights."""

    def __init__(self, network: keras.layers.Layer, optimizer: Any):
        super().__init__(name="trained")
        self.network = network
        self.built = True
        self.compile(optimizer=optimizer)

    def call(self, inputs):
        """Refuses: our networks are called by problem, in the training step."""
        raise TypeError(
            "A callback called the model on inputs; expected it to look at weights and "
            "logs only. Use t2t_mm.load(run) to get answers."
        )

    def get_config(self):
        """Refuses: our networks are kept as checkpoints, not as Keras models."""
        raise TypeError(
            "A callback saved the model as a whole; expected its weights only, since "
            "mm-trainer saves checkpoints. Use save_weights_only=True, or mm-export."
        )


# These set a rate that is a function of the step here.
_OF_RATES = keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau


def check_callbacks(callbacks: Any) -> None:
    """Checks that all are callbacks of Keras that can do their work here.

    Raises:
      TypeError: if they are not.
    """
    if not isinstance(callbacks, Sequence):
        raise TypeError(
            f"callbacks came as {callbacks!r}; expected a list of "
            "keras.callbacks.Callback. Write t2t_mm.train(callbacks=[...]) in Python."
        )
    for one in callbacks:
        if not isinstance(one, keras.callbacks.Callback):
            raise TypeError(
                f"callbacks holds {one!r}; expected objects of "
                "keras.callbacks.Callback. Make it a subclass of that."
            )
        if isinstance(one, _OF_RATES):
            raise TypeError(
                f"callbacks holds a {type(one).__name__}; expected none that sets the "
                "learning rate, which is a function of the step. Say it with the "
                "hparams schedule and learning_rate."
            )
        if getattr(one, "restore_best_weights", False):
            raise TypeError(
                f"callbacks holds a {type(one).__name__} with restore_best_weights; "
                "expected none that changes weights after the last checkpoint. Leave "
                "it out: the run keeps its best evaluated weights beside the newest."
            )


class KerasCallbacks:
    """Calls the hooks of Keras callbacks; without callbacks it costs nothing.

    Args:
      callbacks: objects of `keras.callbacks.Callback`; see `check_callbacks`.
      state: network and optimizer.
      train_steps: updates in total.
      period: steps of an epoch.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        state: TrainingState,
        *,
        train_steps: int,
        period: int,
    ):
        self._list: Any = None
        self._period = period or train_steps
        self._losses: list[float] = []
        self._is_in_epoch = False
        if callbacks:
            self._model = _AsKerasModel(state.model, state.optimizer)
            self._list = keras.callbacks.CallbackList(
                list(callbacks),
                model=self._model,
                epochs=-(-train_steps // self._period),
                steps=self._period,
                verbose=0,
            )
            self._list.on_train_begin()

    @property
    def wants_stop(self) -> bool:
        """Whether a callback has set `stop_training`."""
        return bool(self._list) and bool(self._model.stop_training)

    def before_step(self, step: int) -> None:
        """Called with the number of updates done."""
        if self._list is None:
            return
        if not self._is_in_epoch:
            self._list.on_epoch_begin(step // self._period)
            self._is_in_epoch = True
        self._list.on_train_batch_begin(step % self._period)

    def after_step(self, step: int, output: StepOutput) -> None:
        """Called with the number of updates done before this one, and its numbers."""
        if self._list is None:
            return
        numbers = dict(zip(NUMBERS, np.asarray(output[0]).tolist(), strict=True))
        logs = {
            "loss": numbers["loss"],
            "accuracy": numbers["correct"] / max(numbers["weight"], 1.0),
            "gradient_norm": numbers["gradient_norm"],
        }
        self._losses.append(logs["loss"])
        self._list.on_train_batch_end(step % self._period, logs)

    def before_evaluation(self) -> None:
        """Called before the problems are evaluated."""
        if self._list is not None:
            self._list.on_test_begin()

    def after_evaluation(
        self, step: int, evaluations: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Called with the number of updates done and the evaluation, which may be none.

        Its logs have "val_loss", the mean, and "val_<problem>_<metric>".
        """
        if self._list is None or not self._is_in_epoch:
            return
        logs = {"loss": float(np.mean(self._losses))} if self._losses else {}
        for name, result in evaluations.items():
            scores = {"loss": result["loss"], "accuracy": result["accuracy"]}
            for metric, value in (scores | dict(result["metrics"])).items():
                logs[f"val_{name}_{metric}"] = value
        if evaluations:
            losses = [result["loss"] for result in evaluations.values()]
            logs["val_loss"] = float(np.mean(losses))
            self._list.on_test_end(logs)
        self._list.on_epoch_end((step - 1) // self._period, logs)
        self._losses, self._is_in_epoch = [], False

    def end(self) -> None:
        """Called when training is over."""
        if self._list is not None:
            self._list.on_train_end()

"""A user's folder whose problems and model train in no time, for tests of training."""

import keras
import tensorflow as tf

from t2t_mm import (
    Feature,
    HParams,
    Problem,
    register_hparams,
    register_model,
    register_problem,
)
from t2t_mm.models.base import Model


class Squares(Problem):
    """Squares of numbers, in two ways."""

    inputs = targets = Feature("text", vocabulary="bytes")

    def generate(self, split, tmp_dir):
        for i in range(97 if split == "train" else 5):
            yield {"inputs": str(i * i), "targets": self.answer(str(i * i))}


@register_problem
class QuickReverse(Squares):
    """Writes a number backwards."""

    command = "To-Reversed"

    def answer(self, text):
        return text[::-1]


@register_problem
class QuickCopy(Squares):
    """Writes a number again."""

    command = "To-Copy"

    def answer(self, text):
        return text


@register_model
class QuickBag(Model):
    """Adds the mean of the inputs to each target."""

    def build_body(self):
        self.dropout = keras.layers.Dropout(self.hparams.dropout, name="dropout")

    def encode(self, x, mask, *, training):
        return self.dropout(x, training=training), {}

    def decode(self, y, mask, *, source, source_mask, training):
        return y + tf.reduce_mean(source, 1, keepdims=True), {}


@register_hparams
def quick_tiny():
    """Smallest."""
    return HParams(
        hidden_size=8, batch_tokens=64, dropout=0.2, learning_rate=0.01, max_length=13
    )

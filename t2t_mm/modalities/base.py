"""What every modality net offers the models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from t2t_mm.configuration import HParams
from t2t_mm.layers.segments import Segments
from t2t_mm.losses import cross_entropy
from t2t_mm.problem import Feature


class Alignment(NamedTuple):
    """What each position of a sound says by itself, before any merging.

    Attributes:
      logits: float32 [B, T, V]; id 0 stands for nothing new.
      mask: bool [B, T].
      places: int32 [B, T], which of the represented positions each one went into.
    """

    logits: tf.Tensor
    mask: tf.Tensor
    places: tf.Tensor


class Represented(NamedTuple):
    """Inputs in the unified representation.

    Attributes:
      x: float [B, S, D].
      mask: bool [B, S].
      grid: (H, W), scalars with H * W = S, where the positions form a picture; else
        None.
      alignment: of sounds that are asked for their text position by position; else
        None.
      segments: of packed rows, where several examples share one; else None.
    """

    x: tf.Tensor
    mask: tf.Tensor
    grid: tuple[Any, Any] | None = None
    alignment: Alignment | None = None
    segments: Segments | None = None


class Modality(keras.layers.Layer):
    """Turns one kind of column into the unified representation and back.

    A modality that can only be an input, or only a target, leaves the other methods
    as they are.

    Args:
      hparams: the model's.
      features: every feature of the modality among the model's problems.
      vocabularies: size of each vocabulary and label set, by name.
    """

    def __init__(
        self,
        hparams: HParams,
        features: Sequence[Feature],
        vocabularies: Mapping[str, int],
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hparams = hparams
        self.features = tuple(dict.fromkeys(features))
        self.vocabularies = {
            name: vocabularies[name]
            for name in dict.fromkeys(f.vocabulary for f in features if f.vocabulary)
        }

    def bottom(
        self, x: tf.Tensor, mask: tf.Tensor, *, feature: Feature, training: bool
    ) -> Represented:
        """Represents a batch of inputs."""
        raise TypeError(self._cannot("inputs"))

    def targets_bottom(self, x: tf.Tensor, *, feature: Feature) -> tf.Tensor:
        """Represents a batch of targets, float [B, L, D], not shifted."""
        raise TypeError(self._cannot("targets of a sequence"))

    def top(self, x: tf.Tensor, *, feature: Feature) -> tf.Tensor:
        """Gives logits, float32 [..., V], for representations [..., D]."""
        raise TypeError(self._cannot("targets"))

    def cross_entropy(
        self,
        x: tf.Tensor,
        labels: tf.Tensor,
        *,
        feature: Feature,
        label_smoothing: float,
        mask: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Gives `losses.cross_entropy` of labels [N] for representations [N, D]."""
        return cross_entropy(
            self.top(x, feature=feature),
            labels,
            label_smoothing=label_smoothing,
            mask=mask,
        )

    def prepared_top(self, *, feature: Feature) -> Callable[[tf.Tensor], tf.Tensor]:
        """Gives `top` for a loop, [R, D] to float32 [R, V], its weights read once."""
        return lambda x: self.top(x, feature=feature)

    def expect_role(self, role: str) -> None:
        """Checks that the modality can be "inputs", or "targets".

        Raises:
          TypeError: if it cannot.
        """
        method = {"inputs": "bottom", "targets": "top"}[role]
        if getattr(type(self), method) is getattr(Modality, method):
            raise TypeError(self._cannot(role))

    def _cannot(self, role: str) -> str:
        return (
            f"Modality '{type(self).registered_name}' cannot be {role}; expected one "
            "that can, such as text. Change the problem's feature."
        )

"""Class labels: Xception's exit flow (MultiModel, section 2.5.3)."""

import keras
import tensorflow as tf

from t2t_mm.layers.convolution import ConvStep, max_pool
from t2t_mm.layers.dropout import Dropout
from t2t_mm.modalities.base import Modality
from t2t_mm.registry import register_modality


class ExitFlow(keras.layers.Layer):
    """Makes one vector of a picture or a sequence.

    skip = ConvStep 3x3 stride 2 (x); h3 = skip + MaxPool 3x3 stride 2 (two ConvSteps);
    y = masked mean of ReLU(ConvStep to 2 D (ConvStep to 1.5 D (h3)))

    Args:
      depth: D.

    Call arguments:
      x: float [B, H, W, D]; mask: bool [B, H, W].

    Returns:
      Float [B, 2 * D].

    Source: Kaiser et al. 2017, section 2.5.3, arxiv.org/abs/1706.05137.
    """

    def __init__(self, depth: int, **kwargs):
        super().__init__(**kwargs)
        self.depth = depth
        self.skip = ConvStep(depth, stride=2, name="skip")
        self.step1 = ConvStep(depth, name="step1")
        self.step2 = ConvStep(depth, name="step2")
        self.step4 = ConvStep(depth * 3 // 2, name="step4")
        self.step5 = ConvStep(2 * depth, name="step5")

    def build(self, input_shape):
        """Builds the steps."""
        shape = (None, None, None, self.depth)
        for step in (self.skip, self.step1, self.step2, self.step4):
            step.build(shape)
        self.step5.build((None, None, None, self.depth * 3 // 2))

    def call(self, x, mask):
        """Gives a vector per example."""
        h = self.step2(self.step1(x, mask), mask)
        h = self.skip(x, mask) + max_pool(h, mask, strides=(2, 2))
        mask = mask[:, ::2, ::2]
        h = tf.nn.relu(self.step5(self.step4(h, mask), mask))
        weight = tf.cast(mask, h.dtype)[..., None]
        total = tf.reduce_sum(h * weight, [1, 2])
        return total / tf.maximum(tf.reduce_sum(weight, [1, 2]), 1)


@register_modality(name="class_label")
class ClassLabelModality(Modality):
    """Categories through Xception's exit flow; one linear map per label set.

    Source: Kaiser et al. 2017, section 2.5.3, arxiv.org/abs/1706.05137.
    """

    def build(self, input_shape=None):
        """Makes the shared flow and a linear map per label set."""
        depth = self.hparams.hidden_size
        self.flow = ExitFlow(depth, name="flow")
        self.flow.build((None, None, None, depth))
        self.dropout = Dropout(self.hparams.dropout, name="dropout")
        self.heads = {}
        for name, size in self.vocabularies.items():
            self.heads[name] = keras.layers.Dense(size, name=name)
            self.heads[name].build((None, 2 * depth))

    def pool(self, x, mask, grid, *, training: bool):
        """Gives a vector [B, 2 * D] per example.

        Args:
          x: float [B, S, D]; mask: bool [B, S]; grid: as in `Represented`.
          training: drops values when true.
        """
        batch = tf.shape(x)[0]
        height, width = grid if grid is not None else (tf.shape(x)[1], 1)
        x = tf.reshape(x, [batch, height, width, self.hparams.hidden_size])
        vector = self.flow(x, tf.reshape(mask, [batch, height, width]))
        return self.dropout(vector, training=training)

    def top(self, x, *, feature):
        """Gives float32 logits [B, V] for pooled vectors [B, 2 * D]."""
        return tf.cast(self.heads[feature.vocabulary](x), tf.float32)

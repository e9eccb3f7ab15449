"""Text: subword ids to vectors and back (MultiModel, section 2.5.1)."""

import keras
import tensorflow as tf

from t2t_mm.losses import linear_cross_entropy
from t2t_mm.modalities.base import Modality, Represented
from t2t_mm.problem import NUM_SPELLED
from t2t_mm.registry import register_modality


class TextNet(keras.layers.Layer):
    """Embedding [V, D] of one vocabulary, and the linear map back.

    Args:
      size: V.
      depth: D.
      tie: use the embedding's transpose as the map back.
    """

    def __init__(self, size: int, depth: int, *, tie: bool, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.depth = depth
        self.tie = tie

    def build(self, input_shape=None):
        """Makes the embedding, and the output matrix and bias."""
        self.embedding = self._matrix("embedding")
        self.softmax = self.embedding if self.tie else self._matrix("softmax")
        self.bias = self.add_weight(
            shape=(self.size,), initializer="zeros", name="bias"
        )

    def _matrix(self, name: str):
        # One initializer for two matrices would give both the same numbers.
        normal = keras.initializers.RandomNormal(stddev=self.depth**-0.5)
        shape = (self.size, self.depth)
        return self.add_weight(shape=shape, initializer=normal, name=name)

    def embed(self, ids):
        """Gives float [B, L, D], scaled by sqrt(D), for int32 [B, L]."""
        rows = tf.gather(tf.convert_to_tensor(self.embedding), ids)
        return tf.cast(rows, self.compute_dtype) * self.depth**0.5

    def blend(self, probabilities):
        """Gives what `embed` gives, averaged over ids by [B, S, V']."""
        rows = tf.convert_to_tensor(self.embedding)[: probabilities.shape[-1]]
        probabilities = tf.cast(probabilities, self.compute_dtype)
        x = tf.matmul(probabilities, tf.cast(rows, self.compute_dtype))
        return x * self.depth**0.5

    def prepared_logits(self, size=None):
        """Gives `logits` for a loop: f([R, D]).

        With few rows a product by [D, V] takes half of the time of one by [V, D].
        """
        matrix, bias = self.map_back(size)
        matrix = tf.transpose(tf.cast(matrix, self.compute_dtype))
        bias = tf.cast(bias, tf.float32)
        return lambda x: tf.nn.bias_add(tf.cast(tf.matmul(x, matrix), tf.float32), bias)

    def map_back(self, size=None):
        """Gives the output matrix [V, D] and bias [V]; of the first `size` ids."""
        matrix, bias = (tf.convert_to_tensor(w) for w in (self.softmax, self.bias))
        return (matrix[:size], bias[:size]) if size else (matrix, bias)

    def logits(self, x, size=None):
        """Gives float32 [..., V] for [..., D]; of the first `size` ids, if given."""
        matrix, bias = self.map_back(size)
        flat = tf.reshape(x, [-1, self.depth])
        flat = tf.matmul(flat, tf.cast(matrix, flat.dtype), transpose_b=True)
        flat = tf.nn.bias_add(tf.cast(flat, tf.float32), tf.cast(bias, tf.float32))
        return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], [size or self.size]], 0))


@register_modality(name="text")
class TextModality(Modality):
    """Text in subwords; one embedding and output matrix per vocabulary name.

    Source: Kaiser et al. 2017, section 2.5.1, arxiv.org/abs/1706.05137.
    """

    def build(self, input_shape=None):
        """Makes a net per vocabulary."""
        self.nets = {
            name: TextNet(
                size,
                self.hparams.hidden_size,
                tie=self.hparams.tie_embeddings,
                name=name,
            )
            for name, size in self.vocabularies.items()
        }
        for net in self.nets.values():
            net.build()

    def bottom(self, x, mask, *, feature, training):
        """Represents int32 [B, S] ids."""
        return Represented(self.nets[feature.vocabulary].embed(x), mask)

    def targets_bottom(self, x, *, feature):
        """Represents int32 [B, L] ids."""
        return self.nets[feature.vocabulary].embed(x)

    def blend(self, probabilities, *, feature):
        """Represents ids of which only probabilities are known, float [B, S, V]."""
        return self.nets[feature.vocabulary].blend(probabilities)

    def top(self, x, *, feature):
        """Gives logits over the vocabulary, or over its bytes for spelled text."""
        return self.nets[feature.vocabulary].logits(x, _size(feature))

    def cross_entropy(self, x, labels, *, feature, label_smoothing, mask):
        """Gives the losses; map and softmax in one, unless a subclass has its `top`."""
        if type(self).top is not TextModality.top:
            return super().cross_entropy(
                x, labels, feature=feature, label_smoothing=label_smoothing, mask=mask
            )
        matrix, bias = self.nets[feature.vocabulary].map_back(_size(feature))
        return linear_cross_entropy(
            x,
            matrix,
            bias,
            labels,
            label_smoothing=label_smoothing,
            mask=mask,
        )

    def prepared_top(self, *, feature):
        """Gives `top` for a loop; the map is turned unless a subclass has its `top`."""
        if type(self).top is not TextModality.top:
            return super().prepared_top(feature=feature)
        return self.nets[feature.vocabulary].prepared_logits(_size(feature))


def _size(feature):
    return NUM_SPELLED if feature.spelled else None

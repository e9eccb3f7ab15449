"""The Transformer, pre-norm: the reference that every claim is compared with."""

import keras
import tensorflow as tf

from t2t_mm.layers.attention import MultiHeadAttention, SegmentsPair, causal_mask
from t2t_mm.layers.dropout import Dropout
from t2t_mm.layers.memory import DecoderMemory
from t2t_mm.layers.normalization import LayerNorm
from t2t_mm.layers.timing import add_timing
from t2t_mm.models.base import Model
from t2t_mm.models.settings import TransformerHParams
from t2t_mm.models.stepping import CachedStepper
from t2t_mm.registry import register_model


class FeedForward(keras.layers.Layer):
    """y = x + Dropout(W_2 ReLU(W_1 LayerNorm(x)))."""

    def __init__(self, size: int, *, filter_size: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.norm = LayerNorm(name="norm")
        self.hidden = keras.layers.Dense(filter_size, activation="relu", name="hidden")
        self.result = keras.layers.Dense(size, name="result")
        self.dropout = Dropout(dropout, name="dropout")
        self.filter_size = filter_size

    def build(self, input_shape):
        """Builds the parts."""
        self.norm.build(input_shape)
        self.hidden.build(input_shape)
        self.result.build((None, None, self.filter_size))
        self.dropout.build(input_shape)

    def call(self, x, *, training: bool):
        """Gives float [B, L, D]."""
        y = self.result(self.hidden(self.norm(x)))
        return x + self.dropout(y, training=training)

    def prepared(self):
        """Gives the layer for decoding: f(x [R, D])."""
        normalize = self.norm.prepared()
        into, bias_into, out, bias_out = (
            tf.cast(weight, self.compute_dtype)
            for layer in (self.hidden, self.result)
            for weight in (layer.kernel, layer.bias)
        )

        def step(x):
            hidden = tf.nn.bias_add(tf.matmul(normalize(x), into), bias_into)
            return x + tf.nn.bias_add(tf.matmul(tf.nn.relu(hidden), out), bias_out)

        return step


class TransformerLayer(keras.layers.Layer):
    """Self-attention, attention to the source where there is one, feed-forward.

    Args:
      hparams: the model's.
      is_decoder: looks at a source, and not at later positions.
    """

    def __init__(self, hparams: TransformerHParams, *, is_decoder: bool, **kwargs):
        super().__init__(**kwargs)
        size, heads = hparams.hidden_size, hparams.num_heads
        self.is_decoder = is_decoder
        self.norm = LayerNorm(name="norm")
        self.attention = MultiHeadAttention(
            size, num_heads=heads, dropout=hparams.dropout, name="attention"
        )
        if is_decoder:
            self.source_norm = LayerNorm(name="source_norm")
            self.source_attention = MultiHeadAttention(
                size, num_heads=heads, dropout=hparams.dropout, name="source_attention"
            )
        self.feed_forward = FeedForward(
            size,
            filter_size=hparams.filter_size,
            dropout=hparams.dropout,
            name="feed_forward",
        )
        self.dropout = Dropout(hparams.dropout, name="dropout")

    def build(self, input_shape):
        """Builds the parts."""
        parts: list[keras.layers.Layer] = [self.norm, self.attention]
        parts += [self.feed_forward, self.dropout]
        if self.is_decoder:
            parts += [self.source_norm, self.source_attention]
        for layer in parts:
            layer.build(input_shape)

    def call(
        self,
        x,
        mask,
        source=None,
        source_mask=None,
        *,
        training: bool,
        segments: SegmentsPair | None = None,
    ):
        """Gives float [B, L, D]; `mask` broadcasts to [B, 1, L, L].

        Of packed rows, `segments` are those of x and source (an encoder: of x, twice).
        """
        normal = self.norm(x)
        own = (segments[0], segments[0]) if segments else None
        y = self.attention(normal, normal, mask, training=training, segments=own)
        x += self.dropout(y, training=training)
        if self.is_decoder:
            y = self.source_attention(
                self.source_norm(x),
                source,
                source_mask,
                training=training,
                segments=segments,
            )
            x += self.dropout(y, training=training)
        return self.feed_forward(x, training=training)

    def prepared(self, memory: DecoderMemory, source: tuple[tf.Tensor, tf.Tensor]):
        """Gives a decoder's layer for one position after the other.

        Args:
          memory: of the decoder.
          source: ([B, S, D], mask bool [B, S]).
        """
        ask_itself = self.attention.prepared(self.norm, memory)
        ask_source = self.source_attention.prepared(self.source_norm, memory, source)
        feed = self.feed_forward.prepared()

        def step(x, moment):
            x += ask_itself(x, moment)
            return feed(x + ask_source(x, moment))

        return step


@register_model(name="transformer")
class Transformer(Model):
    """Encoder-decoder Transformer, pre-norm, with the MultiModel's modality nets.

    Source: Vaswani et al. 2017, arxiv.org/abs/1706.03762. We differ: layer
    normalisation stands before each part and once at the end.
    """

    hparams_class = TransformerHParams
    hparams: TransformerHParams
    takes_packed_rows = True

    def build_body(self) -> None:
        """Makes both stacks."""
        hparams = self.hparams
        self.encoder_layers = [
            TransformerLayer(hparams, is_decoder=False, name=f"encoder{i + 1}")
            for i in range(hparams.num_encoder_layers)
        ]
        self.decoder_layers = [
            TransformerLayer(hparams, is_decoder=True, name=f"decoder{i + 1}")
            for i in range(hparams.num_decoder_layers)
        ]
        self.encoder_norm = LayerNorm(name="encoder_norm")
        self.decoder_norm = LayerNorm(name="decoder_norm")
        norms = [self.encoder_norm, self.decoder_norm]
        for layer in self.encoder_layers + self.decoder_layers + norms:
            layer.build((None, None, hparams.hidden_size))

    def encode(self, x, mask, *, training, segments=None):
        """Encodes represented inputs [B, S, D]."""
        x = add_timing(x, segments=segments)
        pair = (segments, segments) if segments else None
        visible = (segments.mask if segments else mask)[:, None, None]
        for layer in self.encoder_layers:
            x = layer(x, visible, training=training, segments=pair)
        return self.encoder_norm(x), {}

    def decode(self, y, mask, *, source, source_mask, training, segments=None):
        """Decodes shifted targets [B, L, D] given encoded inputs [B, S, D]."""
        own, asked = segments or (None, None)
        # Later positions are hidden anyway, and padding comes last.
        before = causal_mask(tf.shape(own.mask if own else mask)[1])
        visible = (asked.mask if asked else source_mask)[:, None, None]
        y = add_timing(y, segments=own)
        for layer in self.decoder_layers:
            y = layer(y, before, source, visible, training=training, segments=segments)
        return self.decoder_norm(y), {}

    def start_decoding(self, source, *, max_length, num_beams=1):
        """Gives the decoder with a memory of keys and values."""
        memory = DecoderMemory(
            num_inputs=tf.shape(source.x)[0],
            num_beams=num_beams,
            max_length=max_length,
            size=self.hparams.hidden_size,
            dtype=self.compute_dtype,
        )
        asked = (source.x, source.mask)
        steps = [layer.prepared(memory, asked) for layer in self.decoder_layers]
        normalize = self.decoder_norm.prepared()

        def body(y, moment):
            y += moment.timing
            for step in steps:
                y = step(y, moment)
            return normalize(y)

        return CachedStepper(memory, body)

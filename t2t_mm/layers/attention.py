"""Dot-product attention and the MultiModel's attention block (section 2.2)."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import keras
import tensorflow as tf

from t2t_mm.layers.convolution import ConvBlock, Step
from t2t_mm.layers.dropout import Dropout
from t2t_mm.layers.halves import product
from t2t_mm.layers.memory import DecoderMemory
from t2t_mm.layers.normalization import LayerNorm
from t2t_mm.layers.segments import Segments, apart, together
from t2t_mm.layers.timing import add_timing

MASKED = -1e9

# Of packed rows: where the examples of what asks lie, and of what is asked.
SegmentsPair = tuple[Segments, Segments]

# Where the weights of calls in this thread go, if anybody wants them.
_RECORD: ContextVar[dict[str, "Recorded"] | None] = ContextVar("record", default=None)


class Recorded(NamedTuple):
    """What a `MultiHeadAttention` did.

    Attributes:
      weights: float32 [B, H, L, S].
      is_own: whether it asked the sequence that it belongs to, not another one.
    """

    weights: tf.Tensor
    is_own: bool


@contextlib.contextmanager
def recorded_weights() -> Iterator[dict[str, Recorded]]:
    """Collects the weights of each `MultiHeadAttention` that is called within.

    Inside of a compiled function it collects that function's tensors: give them back
    from it.

    Yields:
      {path of the layer: what it did}, filled as the layers are called.
    """
    weights: dict[str, Recorded] = {}
    token = _RECORD.set(weights)
    try:
        yield weights
    finally:
        _RECORD.reset(token)


class MultiHeadAttention(keras.layers.Layer):
    """Answers each query with a mixture of values, by several heads at once.

    head = softmax(q k^T / sqrt(D / H)) v, with q = x W_q, k = m W_k, v = m W_v

    Softmax is computed in float32. `project` and `attend` are apart so that a decoder
    can project a source once and ask it at every position.

    Args:
      size: D of queries, memory and result.
      num_heads: H, a divisor of D.
      dropout: share of attention weights dropped in training.

    Call arguments:
      x: float [B, L, D], what asks.
      memory: float [B, S, D], what is asked.
      mask: bool, broadcastable to [B, 1, L, S], true where x may look; of packed rows,
        to what they are when they are taken apart.
      training: drops weights when true.
      segments: of packed rows, those of x and of memory; None for a row each.

    Returns:
      Float [B, L, D].

    Raises:
      ValueError: if D is no multiple of H.

    Source: Vaswani et al. 2017, section 3.2, arxiv.org/abs/1706.03762.
    """

    def __init__(self, size: int, *, num_heads: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        if size % num_heads:
            raise ValueError(
                f"num_heads is {num_heads} and hidden_size {size}; expected a divisor. "
                "Change one of the two."
            )
        self.size = size
        self.num_heads = num_heads
        self.head_size = size // num_heads
        self.dropout = Dropout(dropout, name="dropout")

    def build(self, input_shape):
        """Makes the four projections; keys and values share one matrix [D, 2D]."""
        size = self.size

        def matrix(name: str, columns: int):
            scale = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
            return self.add_weight(shape=(size, columns), initializer=scale, name=name)

        self.query = matrix("query", size)
        self.key_value = matrix("key_value", 2 * size)
        self.output_projection = matrix("output", size)
        self.dropout.build(input_shape)

    def project(self, memory, segments: Segments | None = None):
        """Gives keys and values, float [B, H, S, K] each, of a memory [B, S, D]."""
        both = _matmul(memory, self.key_value, self.compute_dtype)
        if segments is not None:
            both = apart(both, segments)
        keys, values = tf.split(both, 2, -1)
        return self._split(keys), self._split(values)

    def attend(
        self,
        x,
        keys,
        values,
        mask,
        *,
        training: bool,
        segments: Segments | None = None,
    ):
        """Gives (answers [B, L, D], weights [B, H, L, S]) for queries x [B, L, D]."""
        queries = _matmul(x, self.query, self.compute_dtype)
        if segments is not None:
            queries = apart(queries, segments)
        shape = tf.shape(queries)
        queries = self._split(queries) * self.head_size**-0.5
        scores = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32)
        if mask is not None:
            scores += tf.cast(tf.logical_not(mask), tf.float32) * MASKED
        weights = tf.nn.softmax(scores)  # [B, H, L, S]
        dropped = self.dropout(weights, training=training)
        mixed = tf.matmul(tf.cast(dropped, self.compute_dtype), values)
        mixed = tf.transpose(mixed, [0, 2, 1, 3])  # [B, L, H, K]
        mixed = tf.reshape(mixed, [shape[0], shape[1], self.size])
        if segments is not None:
            mixed = together(mixed, segments)
        answers = _matmul(mixed, self.output_projection, self.compute_dtype)
        return answers, weights

    def call(
        self,
        x,
        memory,
        mask=None,
        *,
        training: bool,
        segments: SegmentsPair | None = None,
    ):
        """Gives the answers."""
        of_x, of_memory = segments or (None, None)
        keys, values = self.project(memory, of_memory)
        answers, weights = self.attend(
            x, keys, values, mask, training=training, segments=of_x
        )
        record = _RECORD.get()
        if record is not None:
            record[self.path] = Recorded(weights, x is memory)
        return answers

    def prepared(
        self,
        norm: LayerNorm,
        memory: DecoderMemory,
        source: tuple[tf.Tensor, tf.Tensor] | None = None,
    ) -> Step:
        """Gives what it answers to LayerNorm(x), for one position after the other.

        Queries, keys and values come of one matrix, with the scale of the queries
        multiplied in. A source is projected once.

        Args:
          norm: the normalisation before it.
          memory: of the decoder.
          source: ([B, S, D], mask bool [B, S]) to ask; None to ask the own past.
        """
        dtype = self.compute_dtype
        normalize = norm.prepared()
        inputs, beams = memory.num_inputs, memory.num_beams
        heads, head_size = self.num_heads, self.head_size
        query = tf.cast(self.query, dtype) * head_size**-0.5
        output = tf.cast(self.output_projection, dtype)

        def asked(queries, keys, values, hidden):
            queries = tf.reshape(queries, [inputs, beams, heads, head_size])
            queries = _swapped(queries)  # [B, H, N, K]
            scores = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32)
            if hidden is not None:
                scores += hidden
            weights = tf.cast(tf.nn.softmax(scores), dtype)
            mixed = _swapped(tf.matmul(weights, values))  # [B, N, H, K]
            return tf.matmul(tf.reshape(mixed, [-1, self.size]), output)

        if source is not None:
            keys, values = self.project(source[0])
            hidden = tf.where(source[1], 0.0, MASKED)[:, None, None]  # [B, 1, 1, S]
            return lambda x, moment: asked(
                tf.matmul(normalize(x), query), keys, values, hidden
            )
        together = tf.concat([query, tf.cast(self.key_value, dtype)], 1)  # [D, 3D]
        number = memory.add_attention(heads)

        def step(x, moment):
            projected = tf.matmul(normalize(x), together)
            queries, latest = tf.split(projected, [self.size, 2 * self.size], 1)
            keys, values = moment.keys_values(number, latest)
            return asked(queries, keys, values, moment.visible)

        return step

    def _split(self, x):
        shape = tf.shape(x)
        x = tf.reshape(x, [shape[0], shape[1], self.num_heads, self.head_size])
        return tf.transpose(x, [0, 2, 1, 3])  # [B, H, L, K]


def _matmul(x, matrix, dtype):
    shape = tf.shape(x)
    flat = product(tf.reshape(x, [-1, matrix.shape[0]]), tf.cast(matrix, dtype))
    return tf.reshape(flat, [shape[0], shape[1], matrix.shape[1]])


def _swapped(x):
    """Swaps axes 1 and 2 of [B, *, *, K]; where one has length 1 that moves nothing."""
    _, second, third, last = x.shape
    if 1 in (second, third):
        return tf.reshape(x, [-1, third, second, last])
    return tf.transpose(x, [0, 2, 1, 3])


def causal_mask(length: tf.Tensor | int) -> tf.Tensor:
    """Gives bool [1, 1, L, L]: position i may look at j <= i."""
    positions = tf.range(length)
    return (positions[:, None] >= positions[None, :])[None, None]


class AttentionBlock(keras.layers.Layer):
    """Mixes the targets with convolutions, lets them look at themselves and the source.

    y = ConvBlocks(x + timing); y = y + SelfAttention(LayerNorm(y));
    y = y + SourceAttention(LayerNorm(y), source)

    Args:
      size: D.
      num_heads: H.
      num_conv_blocks: ConvBlocks before the attention; the paper has 2.
      kernels, dilations: of the ConvBlocks.
      dropout: share of values dropped in training.

    Call arguments:
      x: float [B, L, D], targets.
      mask: bool [B, L], of the targets.
      source: float [B, S, D].
      source_mask: bool [B, S].
      training: drops values when true.
      segments: of packed rows, those of targets and source; None for a row each.

    Returns:
      Float [B, L, D]. No position depends on a later target.

    Source: Kaiser et al. 2017, section 2.2, arxiv.org/abs/1706.05137. We differ where
    it is silent: residual sums, and layer normalisation of what asks.
    """

    def __init__(
        self,
        size: int,
        *,
        num_heads: int,
        num_conv_blocks: int,
        kernels: tuple[int, ...],
        dilations: tuple[int, ...],
        dropout: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.conv_blocks = [
            ConvBlock(
                size,
                kernels=kernels,
                dilations=dilations,
                dropout=dropout,
                is_causal=True,
                name=f"conv{i + 1}",
            )
            for i in range(num_conv_blocks)
        ]
        self.self_norm = LayerNorm(name="self_norm")
        self.self_attention = MultiHeadAttention(
            size, num_heads=num_heads, dropout=dropout, name="self_attention"
        )
        self.source_norm = LayerNorm(name="source_norm")
        self.source_attention = MultiHeadAttention(
            size, num_heads=num_heads, dropout=dropout, name="source_attention"
        )

    def build(self, input_shape):
        """Builds the parts."""
        shape = (None, None, input_shape[-1])
        norms = [self.self_norm, self.source_norm]
        attentions = [self.self_attention, self.source_attention]
        for layer in self.conv_blocks + norms + attentions:
            layer.build(shape)

    def call(
        self,
        x,
        mask,
        *,
        source,
        source_mask,
        training: bool,
        segments: SegmentsPair | None = None,
    ):
        """Gives the targets, informed by the source."""
        own, asked = segments or (None, None)
        x = add_timing(x, segments=own)
        for block in self.conv_blocks:
            x = block(x, mask, training=training, segments=own)
        normal = self.self_norm(x)
        x += self.self_attention(
            normal,
            normal,
            causal_mask(tf.shape(own.mask if own else x)[1]),
            training=training,
            segments=(own, own) if own else None,
        )
        visible = asked.mask if asked else source_mask
        return x + self.source_attention(
            self.source_norm(x),
            source,
            visible[:, None, None],
            training=training,
            segments=segments,
        )

    def prepared(
        self, memory: DecoderMemory, source: tuple[tf.Tensor, tf.Tensor]
    ) -> Step:
        """Gives the block for one position after the other.

        Args:
          memory: of the decoder.
          source: ([B, S, D], mask bool [B, S]).
        """
        conv_blocks = [block.prepared(memory) for block in self.conv_blocks]
        ask_itself = self.self_attention.prepared(self.self_norm, memory)
        ask_source = self.source_attention.prepared(self.source_norm, memory, source)

        def step(x, moment):
            x += moment.timing
            for block in conv_blocks:
                x = block(x, moment)
            x += ask_itself(x, moment)
            return x + ask_source(x, moment)

        return step

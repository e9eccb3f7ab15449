"""The MultiModel: convolutional encoder, I/O mixer and decoder with experts.

Kaiser et al. 2017, "One Model To Learn Them All", arxiv.org/abs/1706.05137.
"""

import tensorflow as tf

from t2t_mm.layers.attention import AttentionBlock
from t2t_mm.layers.convolution import ConvBlock, masked
from t2t_mm.layers.experts import ExpertBlock
from t2t_mm.layers.memory import DecoderMemory
from t2t_mm.layers.normalization import LayerNorm
from t2t_mm.layers.segments import apart
from t2t_mm.layers.timing import add_timing
from t2t_mm.models.base import Model, Statistics
from t2t_mm.models.settings import MultiModelHParams
from t2t_mm.models.stepping import CachedStepper
from t2t_mm.registry import register_model


@register_model(name="multimodel")
class MultiModel(Model):
    """One network for all problems: separable convolutions, attention and experts.

    encoder: timing, ConvBlocks, experts in the middle
    mixer:   Attention over the encoded inputs, ConvBlocks
    decoder: ConvBlock + Attention pairs, experts in the middle

    Source: Kaiser et al. 2017, section 2.4, arxiv.org/abs/1706.05137. We differ where
    the paper is silent: residual sums, layer normalisation before attention and
    experts, and once at the end of encoder and decoder.
    """

    hparams_class = MultiModelHParams
    hparams: MultiModelHParams
    takes_packed_rows = True

    def build_body(self) -> None:
        """Makes encoder, mixer and decoder."""
        hparams = self.hparams
        self.encoder_blocks = [
            self._conv_block(f"encoder_conv{i + 1}", is_causal=False)
            for i in range(hparams.encoder_blocks)
        ]
        self.mixer_attention = self._attention_block("mixer_attention")
        self.mixer_blocks = [
            self._conv_block(f"mixer_conv{i + 1}", is_causal=True)
            for i in range(hparams.mixer_blocks)
        ]
        self.decoder_blocks = [
            self._conv_block(f"decoder_conv{i + 1}", is_causal=True)
            for i in range(hparams.decoder_blocks)
        ]
        self.decoder_attentions = [
            self._attention_block(f"decoder_attention{i + 1}")
            for i in range(hparams.decoder_blocks)
        ]
        self.encoder_experts = self._expert_block("encoder_experts")
        self.decoder_experts = self._expert_block("decoder_experts")
        self.encoder_norm = LayerNorm(name="encoder_norm")
        self.decoder_norm = LayerNorm(name="decoder_norm")
        layers = [
            *self.encoder_blocks,
            self.mixer_attention,
            *self.mixer_blocks,
            *self.decoder_blocks,
            *self.decoder_attentions,
            self.encoder_experts,
            self.decoder_experts,
            self.encoder_norm,
            self.decoder_norm,
        ]
        for layer in layers:
            if layer is not None:
                layer.build((None, None, hparams.hidden_size))

    def encode(self, x, mask, *, training, segments=None):
        """Encodes represented inputs [B, S, D]."""
        hparams = self.hparams
        statistics: Statistics = {}
        x = add_timing(x, segments=segments)
        for i, block in enumerate(self.encoder_blocks):
            if i == hparams.encoder_moe_after:
                x = self._ask_experts(
                    self.encoder_experts, x, mask, statistics, training
                )
            x = block(x, mask, training=training, segments=segments)
        if hparams.encoder_moe_after >= len(self.encoder_blocks):
            x = self._ask_experts(self.encoder_experts, x, mask, statistics, training)
        return masked(self.encoder_norm(x), mask), statistics

    def decode(self, y, mask, *, source, source_mask, training, segments=None):
        """Decodes shifted targets [B, L, D] given encoded inputs [B, S, D]."""
        hparams = self.hparams
        statistics: Statistics = {}
        own = segments[0] if segments else None

        def attend(block, x):
            if not hparams.use_attention:
                return x
            return block(
                x,
                mask,
                source=source,
                source_mask=source_mask,
                training=training,
                segments=segments,
            )

        def convolve(block, x):
            return block(x, mask, training=training, segments=own)

        if not hparams.use_attention:
            y += _seen_without_attention(source, source_mask, segments)
        y = attend(self.mixer_attention, y)
        for block in self.mixer_blocks:
            y = convolve(block, y)
        pairs = zip(self.decoder_blocks, self.decoder_attentions, strict=True)
        for i, (block, attention) in enumerate(pairs):
            if i == hparams.decoder_moe_after:
                y = self._ask_experts(
                    self.decoder_experts, y, mask, statistics, training
                )
            y = attend(attention, convolve(block, y))
        if hparams.decoder_moe_after >= len(self.decoder_blocks):
            y = self._ask_experts(self.decoder_experts, y, mask, statistics, training)
        return self.decoder_norm(y), statistics

    def start_decoding(self, source, *, max_length, num_beams=1):
        """Gives the decoder with a memory of convolutions and attention."""
        hparams = self.hparams
        memory = DecoderMemory(
            num_inputs=tf.shape(source.x)[0],
            num_beams=num_beams,
            max_length=max_length,
            size=hparams.hidden_size,
            dtype=self.compute_dtype,
        )
        asked = (source.x, source.mask)
        steps = []

        def attend(block):
            if hparams.use_attention:
                steps.append(block.prepared(memory, asked))

        def ask_experts():
            if self.decoder_experts is not None:
                answers = self.decoder_experts.prepared(
                    has_fixed_shapes=isinstance(max_length, int)
                )
                steps.append(lambda y, moment: answers(y))

        if not hparams.use_attention:
            mean = _masked_mean(*asked)[:, 0]
            mean = tf.repeat(mean, num_beams, 0) if num_beams > 1 else mean  # [R, D]
            steps.append(lambda y, moment: y + mean)
        attend(self.mixer_attention)
        steps += [block.prepared(memory) for block in self.mixer_blocks]
        for i, block in enumerate(self.decoder_blocks):
            if i == hparams.decoder_moe_after:
                ask_experts()
            steps.append(block.prepared(memory))
            attend(self.decoder_attentions[i])
        if hparams.decoder_moe_after >= len(self.decoder_blocks):
            ask_experts()
        normalize = self.decoder_norm.prepared()

        def body(y, moment):
            for step in steps:
                y = step(y, moment)
            return normalize(y)

        return CachedStepper(memory, body)

    def auxiliary_loss(self, statistics):
        """Gives the weighted sum of the experts' balance losses."""
        losses = [s["balance_loss"] for s in statistics.values()]
        if not losses:
            return tf.constant(0.0)
        return self.hparams.balance_loss_weight * tf.add_n(losses)

    def _ask_experts(self, block, x, mask, statistics, training):
        if block is None:
            return x
        x, statistics[block.name] = block(x, mask, training=training)
        return x

    def _conv_block(self, name: str, *, is_causal: bool) -> ConvBlock:
        return ConvBlock(
            self.hparams.hidden_size,
            kernels=self.hparams.kernels,
            dilations=self.hparams.dilations,
            dropout=self.hparams.dropout,
            is_causal=is_causal,
            name=name,
        )

    def _attention_block(self, name: str) -> AttentionBlock | None:
        if not self.hparams.use_attention:
            return None
        return AttentionBlock(
            self.hparams.hidden_size,
            num_heads=self.hparams.num_heads,
            num_conv_blocks=self.hparams.attention_conv_blocks,
            kernels=self.hparams.kernels,
            dilations=self.hparams.dilations,
            dropout=self.hparams.dropout,
            name=name,
        )

    def _expert_block(self, name: str) -> ExpertBlock | None:
        if not self.hparams.use_moe:
            return None
        hparams = self.hparams
        has_capacity = hparams.expert_dispatch == "capacity"
        return ExpertBlock(
            num_experts=hparams.num_experts,
            expert_size=hparams.expert_size,
            experts_per_position=hparams.experts_per_position,
            dropout=hparams.dropout,
            capacity_factor=hparams.expert_capacity_factor if has_capacity else None,
            num_groups=hparams.expert_groups,
            name=name,
        )


def _seen_without_attention(source, source_mask, segments):
    """Gives the mean of the source, [B, 1, D]; of packed rows each example's, there."""
    if segments is None:
        return _masked_mean(source, source_mask)
    own, asked = segments
    means = _masked_mean(apart(source, asked), asked.mask)[:, 0]  # [N, D]
    return tf.gather(means, own.examples)


def _masked_mean(x, mask):
    weight = tf.cast(mask, x.dtype)[..., None]
    total = tf.reduce_sum(x * weight, 1, keepdims=True)
    return total / tf.maximum(tf.reduce_sum(weight, 1, keepdims=True), 1)

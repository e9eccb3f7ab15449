"""What tests of models and of decoding build on: problems, small networks, a toy."""

import dataclasses

import tensorflow as tf

from t2t_mm.made_up_batches import made_up_problem
from t2t_mm.models.base import Model
from t2t_mm.models.settings import MultiModelHParams, TransformerHParams
from t2t_mm.problem import Feature

WORDS = Feature("text", vocabulary="words")
LABELS = Feature("class_label", vocabulary="kinds", labels=("ant", "bee", "cat"))
SIZES = {"words": 23, "kinds": 3}
TRANSLATE = made_up_problem("translate", WORDS, WORDS, "To-German")
CLASSIFY = made_up_problem("classify", WORDS, LABELS, "To-Category")

# A MultiModel with one of each part that the paper has; sizes are distinct primes.
SMALLEST = MultiModelHParams(
    hidden_size=6,
    dropout=0.0,
    encoder_blocks=1,
    encoder_moe_after=1,
    mixer_blocks=0,
    decoder_blocks=1,
    decoder_moe_after=1,
    attention_conv_blocks=0,
    kernels=(3, 3, 5, 5),
    dilations=(1, 1, 1, 2),
    num_heads=2,
    num_experts=3,
    experts_per_position=2,
    expert_size=7,
    image_stages=1,
    image_filters=2,
)
# Several of each part.
DEEPER = dataclasses.replace(
    SMALLEST,
    encoder_blocks=3,
    encoder_moe_after=2,
    mixer_blocks=1,
    decoder_blocks=2,
    attention_conv_blocks=1,
    num_experts=5,
)
TRANSFORMER = TransformerHParams(
    hidden_size=10,
    dropout=0.0,
    num_encoder_layers=2,
    num_decoder_layers=2,
    num_heads=2,
    filter_size=11,
)


class Sum(Model):
    """Adds the inputs' sum to the sum of the targets so far; keeps no memory."""

    def build_body(self):
        pass

    def encode(self, x, mask, *, training):
        return x * tf.cast(mask, x.dtype)[..., None], {}

    def decode(self, y, mask, *, source, source_mask, training):
        return tf.cumsum(y, 1) + tf.reduce_sum(source, 1, keepdims=True), {}

"""Sets for the reference Transformer."""

import dataclasses

from t2t_mm.models.settings import TransformerHParams
from t2t_mm.registry import register_hparams


@register_hparams
def transformer_base() -> TransformerHParams:
    """Six layers, D = 512, as Vaswani et al. 2017; for one GPU. Not run."""
    return TransformerHParams(
        hidden_size=512,
        num_encoder_layers=6,
        num_decoder_layers=6,
        filter_size=2048,
        batch_tokens=4096,
        batch_examples=64,
        batch_seconds=240.0,
        warmup_steps=4000,
    )


@register_hparams
def transformer_tiny() -> TransformerHParams:
    """Two layers, D = 128: the yardstick for `multimodel_tiny`."""
    return dataclasses.replace(
        transformer_base(),
        hidden_size=128,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=2,
        filter_size=512,
        image_stages=3,
        image_filters=16,
        audio_filters=16,
        tie_embeddings=True,
        batch_tokens=1024,
        batch_examples=64,
        batch_seconds=48.0,
        learning_rate=2e-3,
        warmup_steps=300,
        image_max_shift=0.1,
    )

"""Sets for the MultiModel."""

import dataclasses

from t2t_mm.models.settings import MultiModelHParams
from t2t_mm.registry import register_hparams


@register_hparams
def multimodel_base() -> MultiModelHParams:
    """The paper's structure at D = 512 with 60 experts; for one GPU. Not run.

    Pictures are mirrored and cropped as Tensor2Tensor did for the paper: 299 of 360
    pixels a side, 0.69 of the area, since captions need most of a picture. Sounds get
    SpecAugment's LD policy (27 of 80 bands) and speeds of 0.9 to 1.1.
    """
    return MultiModelHParams(
        hidden_size=512,
        expert_size=2048,
        batch_tokens=4096,
        batch_examples=64,
        batch_seconds=240.0,
        warmup_steps=4000,
        image_flip=True,
        image_min_crop_area=0.69,
        spec_augment=True,
        spec_augment_frequency=27 / 80,
        audio_speed_change=0.1,
    )


@register_hparams
def multimodel_small() -> MultiModelHParams:
    """A third of the depth, D = 256, 16 experts; for a small GPU or a patient CPU."""
    return dataclasses.replace(
        multimodel_base(),
        hidden_size=256,
        expert_size=512,
        num_experts=16,
        experts_per_position=2,
        encoder_blocks=3,
        encoder_moe_after=2,
        mixer_blocks=1,
        decoder_blocks=2,
        decoder_moe_after=1,
        attention_conv_blocks=1,
        image_stages=3,
        batch_tokens=2048,
        warmup_steps=1000,
        tie_embeddings=True,
        # For a small network on little data, each costs more than it brings.
        image_flip=False,
        image_min_crop_area=1.0,
        spec_augment=False,
        audio_speed_change=0.0,
    )


@register_hparams
def multimodel_tiny() -> MultiModelHParams:
    """The demo's: what two cores learn best in a quarter of an hour, D = 128."""
    return dataclasses.replace(
        multimodel_small(),
        hidden_size=128,
        num_heads=4,
        expert_size=256,
        num_experts=8,
        experts_per_position=2,
        encoder_blocks=2,
        encoder_moe_after=1,
        mixer_blocks=1,
        decoder_blocks=1,
        decoder_moe_after=1,
        attention_conv_blocks=0,
        # So few steps see little data twice: dropout only slows them down.
        dropout=0.0,
        image_filters=24,
        # 40 ms a position, short enough to tell letters apart.
        audio_stages=2,
        audio_filters=16,
        audio_mel_bins=40,
        audio_width=256,
        audio_blocks=5,
        audio_dropout=0.1,
        audio_alignment_weight=1.0,
        audio_merging=True,
        batch_tokens=1024,
        batch_examples=64,
        batch_seconds=24.0,
        learning_rate=3e-3,
        schedule="constant*linear_warmup*cosine_decay",
        warmup_steps=250,
    )


@register_hparams
def multimodel_paper() -> MultiModelHParams:
    """The paper's eight problems jointly: D = 1024, 240 experts, k = 4. Not run."""
    return dataclasses.replace(
        multimodel_base(),
        hidden_size=1024,
        expert_size=4096,
        num_experts=240,
        experts_per_position=4,
        dropout=0.5,
    )

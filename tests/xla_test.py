"""The training step of each kind of problem compiles with XLA, as it must on TPU.

XLA refuses what a TPU could not do: operations of the host, shapes known only at run
time.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.configuration import named_hparams
from t2t_mm.distribution import Distribution
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models import build_model
from t2t_mm.optimizers import make_optimizer
from t2t_mm.preparation import check_fixed_shapes
from t2t_mm.problem import Feature
from t2t_mm.train_step import NUMBERS, TrainSteps
from t2t_mm.training_state import TrainingState

WORDS = Feature("text", vocabulary="words")
ANIMALS = Feature("class_label", vocabulary="animals", labels=("cat", "dog", "eel"))
PICTURE = Feature("image", height=17, width=19, channels=3)
SOUND = Feature("audio", sample_rate=8000)
SIZES = {"words": 11, "animals": 3}
SMALL = {
    **{"hidden_size": 8, "encoder_blocks": 1, "encoder_moe_after": 0},
    **{"mixer_blocks": 0, "decoder_blocks": 1, "decoder_moe_after": 0},
    **{"attention_conv_blocks": 0, "num_experts": 3, "experts_per_position": 2},
    **{"expert_size": 7, "num_heads": 2, "kernels": (3, 3, 3, 3)},
    **{"dilations": (1, 1, 1, 1), "image_stages": 1, "image_filters": 4},
    # Nothing drawn by row, since padding adds rows.
    **{"image_flip": False, "image_min_crop_area": 1.0, "image_max_shift": 0.0},
    **{"image_saturation_jitter": 0.0, "image_colour_jitter": 0.0},
    **{"spec_augment": False, "audio_speed_change": 0.0, "audio_noise": 0.0},
    **{"audio_merging": False, "audio_blocks": 1, "audio_dropout": 0.0},
    **{"audio_stages": 1, "audio_filters": 4, "audio_alignment_weight": 0.0},
}


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [(WORDS, WORDS), (PICTURE, ANIMALS), (PICTURE, WORDS), (SOUND, WORDS)],
    ids=lambda feature: feature.modality,
)
def test_a_step_compiles_with_xla_and_learns_the_same(inputs, targets, own_registries):
    problem = made_up_problem("made_up", inputs, targets, "To-Anything")
    hparams = dataclasses.replace(
        named_hparams("multimodel_tiny"),
        dropout=0.0,
        expert_dispatch="capacity",
        expert_capacity_factor=3.0,
        schedule="constant",
        **SMALL,
    )
    check_fixed_shapes(hparams, [problem])
    batch = {
        name: tf.constant(value)
        for name, value in made_up_batch(problem, SIZES, num_examples=3).items()
    }
    found = []
    for use_xla in (False, True):
        keras.utils.set_random_seed(1)
        model = build_model("multimodel", hparams, [problem], SIZES)
        for variable in model.trainable_variables:  # noise that does not decide
            if "gate" in variable.path.rpartition("/")[2]:
                normal = np.random.default_rng(1).normal(size=variable.shape)
                is_noise = variable.path.endswith("noise")
                variable.assign(np.where(is_noise, -9.0, 9.0 * normal))
        optimizer = make_optimizer(hparams, model.trainable_variables, 10)
        state = TrainingState(model, optimizer, ["made_up"])
        steps = TrainSteps(
            state,
            {"made_up": batch_signature(problem)},
            hparams.clip_norm,
            Distribution(use_xla=use_xla),
        )
        found.append(np.array([steps("made_up", batch)[0] for _ in range(2)]))
    plain, compiled = (numbers[:, : NUMBERS.index("correct")] for numbers in found)
    assert np.isfinite(compiled).all()
    np.testing.assert_array_equal(compiled[:, NUMBERS.index("weight")], plain[:, 2])
    np.testing.assert_allclose(compiled[0], plain[0], rtol=2e-2)


# Everything that draws random numbers in training, and everything that adds to a step.
RANDOM = {
    **{"dropout": 0.1, "image_flip": True, "image_min_crop_area": 0.5},
    **{"image_max_shift": 0.1, "image_saturation_jitter": 0.2},
    **{"image_colour_jitter": 0.2, "spec_augment": True, "audio_speed_change": 0.1},
    **{"audio_noise": 0.1, "audio_dropout": 0.1},
    **{"gradient_accumulation": 2, "gradient_conflicts": "project"},
    **{"loss_balancing": True, "ema_decay": 0.9},
}


@pytest.mark.parametrize(
    ("inputs", "targets", "changes"),
    [
        (PICTURE, ANIMALS, {"decode_classes": True}),
        (SOUND, WORDS, {}),
        pytest.param(
            *(SOUND, WORDS, {"audio_input": "waveform", "spec_augment": False}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            # Room is counted with the padding, of which there is three times as much.
            *(WORDS, WORDS, {"expert_capacity_factor": 0.1}),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["image", "log-mel", "waveform", "full experts"],
)
def test_all_that_a_step_may_have_compiles_with_xla(
    inputs, targets, changes, own_registries
):
    problem = made_up_problem("made_up", inputs, targets, "To-Anything")
    hparams = dataclasses.replace(
        named_hparams("multimodel_tiny"),
        **{"expert_dispatch": "capacity", "audio_mel_bins": 80, "audio_width": 0},
        **{**SMALL, **RANDOM, **changes},
    )
    check_fixed_shapes(hparams, [problem])
    distribution = Distribution(use_xla=True)
    model = build_model("multimodel", hparams, [problem], SIZES)
    optimizer = make_optimizer(hparams, model.trainable_variables, 10)
    state = TrainingState(
        model, optimizer, ["made_up"], ema_decay=0.9, is_balancing=True
    )
    signatures = {"made_up": batch_signature(problem)}
    steps = TrainSteps(state, signatures, hparams.clip_norm, distribution)
    before = [variable.numpy() for variable in model.trainable_variables]
    dropped = 0.0
    for turn in range(2):
        made_up = made_up_batch(problem, SIZES, num_examples=3, seed=turn)
        batch = {name: tf.constant(value) for name, value in made_up.items()}
        numbers, experts = steps("made_up", batch)
        assert np.isfinite(numbers.numpy()).all()
        dropped += sum(float(layer["dropped"]) for layer in experts.values())
    state.averages.update(1, distribution)
    after = [variable.numpy() for variable in model.trainable_variables]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert (dropped > 0.1) == ("expert_capacity_factor" in changes), dropped


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_dispatch": "exact"}, "--hparams=expert_dispatch=capacity"),
        (
            {"expert_dispatch": "capacity", "expert_groups": 2},
            "expert_groups=2; expected 1, since one XLA program",
        ),
        (
            {"expert_dispatch": "capacity", "audio_alignment_weight": 0.5},
            "--hparams=audio_alignment_weight=0",
        ),
    ],
)
def test_what_has_no_fixed_shapes_is_refused(changes, message):
    problem = made_up_problem("made_up", SOUND, WORDS, "To-Anything")
    hparams = dataclasses.replace(named_hparams("multimodel_tiny"), **changes)
    with pytest.raises(ValueError, match=message):
        check_fixed_shapes(hparams, [problem])

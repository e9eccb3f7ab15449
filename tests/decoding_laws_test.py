import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.decoding_laws import check_scores, check_steps
from t2t_mm.laws import ConformanceError, shake
from t2t_mm.made_up_batches import made_up_problem
from t2t_mm.models import build_model
from t2t_mm.models.multimodel import MultiModel
from t2t_mm.models.settings import TransformerHParams
from t2t_mm.problem import Feature
from tests.made.models import SIZES, SMALLEST, TRANSLATE, WORDS, Sum

KINDS = Feature("class_label", vocabulary="kinds", labels=tuple("abc"))
PICTURE = Feature("image", height=7, width=5)
SOUND = Feature("audio", sample_rate=8000)
CAPTION = made_up_problem("caption", PICTURE, WORDS, "To-English")
HEAR = made_up_problem("hear", SOUND, WORDS, "To-English")
HPARAMS = dataclasses.replace(
    SMALLEST,
    hidden_size=10,
    mixer_blocks=1,
    decoder_blocks=2,
    attention_conv_blocks=1,
    num_experts=5,
    audio_stages=2,
    audio_filters=2,
    audio_mel_bins=8,
)
ABLATIONS = {
    "as it is": {},
    "no experts": {"use_moe": False},
    "no attention": {"use_attention": False},
    "neither": {"use_moe": False, "use_attention": False},
    "classes decoded": {"decode_classes": True},
    "no convolutions in attention": {"attention_conv_blocks": 0},
    "two of them": {"attention_conv_blocks": 2, "decoder_blocks": 1},
    "experts first": {"decoder_moe_after": 0},
    "experts last": {"decoder_moe_after": 2},
    "no mixer": {"mixer_blocks": 0},
    "the paper's kernels": {"kernels": (3, 3, 15, 15), "dilations": (1, 1, 1, 8)},
    "single taps": {"kernels": (1, 3, 1, 5), "dilations": (1, 3, 1, 1)},
    "ungrown kernels": {"kernels": (3, 3, 3, 3), "dilations": (1, 2, 1, 3)},
    "one head": {"num_heads": 1},
    "hardly asked experts": {"num_experts": 41},  # few positions copy theirs
    "every expert": {"experts_per_position": 5},
    "tied": {"tie_embeddings": True},
}


def made(hparams, problems, name="multimodel", seed=3):
    keras.utils.set_random_seed(seed)
    model = build_model(name, hparams, problems, SIZES)
    shake(model)
    return model


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_one_position_at_a_time_is_all_at_once(ablation):
    changed = ABLATIONS[ablation]
    hparams = dataclasses.replace(HPARAMS, **changed)
    # Longer than most rings are, so that they wrap around.
    check_steps(made(hparams, [TRANSLATE]), TRANSLATE, SIZES, length=11)


def test_the_transformer_one_position_at_a_time():
    hparams = TransformerHParams(
        hidden_size=10, num_heads=2, num_encoder_layers=1, filter_size=7
    )
    model = made(hparams, [TRANSLATE], "transformer")
    check_steps(model, TRANSLATE, SIZES)
    check_scores(model, TRANSLATE, SIZES)


def test_a_long_ring_wraps_around():
    """The paper's widest step reaches 112 positions back."""
    hparams = dataclasses.replace(
        HPARAMS,
        kernels=(1, 1, 1, 15),
        dilations=(1, 1, 1, 8),
        mixer_blocks=0,
        decoder_blocks=1,
        use_attention=False,
        use_moe=False,
    )
    check_steps(made(hparams, [TRANSLATE]), TRANSLATE, SIZES, length=118)


@pytest.mark.parametrize("problem", [TRANSLATE, CAPTION, HEAR], ids=lambda p: p.name)
def test_scores_are_those_of_teacher_forcing_alone_and_in_any_batch(problem):
    check_scores(made(HPARAMS, [problem]), problem, SIZES)


@pytest.mark.parametrize(
    "changed", [{"use_attention": False}, {"use_moe": False}], ids=str
)
def test_scores_of_ablations(changed):
    model = made(dataclasses.replace(HPARAMS, **changed), [TRANSLATE])
    check_scores(model, TRANSLATE, SIZES)


def test_a_model_without_a_memory_is_decoded_all_the_same():
    model = Sum(HPARAMS, [TRANSLATE], SIZES, name="sum")
    model.build()
    shake(model)
    check_steps(model, TRANSLATE, SIZES)
    check_scores(model, TRANSLATE, SIZES)


class Forgetful(MultiModel):
    """Changes what `decode` does and forgets that a memory must do the same."""

    def decode(self, y, mask, **options):
        h, statistics = super().decode(y, mask, **options)
        return h * 1.001, statistics


def test_a_memory_that_differs_is_found_out():
    model = Forgetful(HPARAMS, [TRANSLATE], SIZES, name="forgetful")
    model.build()
    shake(model)
    with pytest.raises(ConformanceError, match="position 0 of 1 beams against all"):
        check_steps(model, TRANSLATE, SIZES)
    with pytest.raises(ConformanceError, match="score of answer 0 against teacher"):
        check_scores(model, TRANSLATE, SIZES)


def test_beams_that_change_places_keep_their_own_past():
    """What `check_steps` is about: without moving, rows would differ."""
    model = made(HPARAMS, [TRANSLATE])
    reordered = type(model.start_decoding(_source(model), max_length=4)).reordered

    class Lazy(MultiModel):
        def start_decoding(self, source, *, max_length, num_beams=1):
            stepper = super().start_decoding(
                source, max_length=max_length, num_beams=num_beams
            )
            stepper.reordered = lambda state, parents: reordered(
                stepper, state, tf.range(tf.size(parents))
            )
            return stepper

    lazy = Lazy(HPARAMS, [TRANSLATE], SIZES, name="lazy")
    lazy.build()
    shake(lazy)
    with pytest.raises(ConformanceError, match="of 3 beams against all at once"):
        check_steps(lazy, TRANSLATE, SIZES)


def _source(model):
    ids = np.full([2, 3], 5, np.int32)
    batch = {"inputs": ids, "inputs_mask": np.ones([2, 3], bool)}
    return model.encode_inputs(TRANSLATE, batch, training=False)[0]

"""Every model meets every pairing of modalities: trains, remembers, decodes."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import t2t_mm.hparams  # noqa: F401  (fills the registry)
from t2t_mm import registry
from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.decoding import ranked_classes, sequences
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models import build_model
from t2t_mm.models.settings import TransformerHParams
from t2t_mm.optimizers import make_optimizer
from t2t_mm.problem import AUDIO, CLASS_LABEL, Feature
from t2t_mm.testing import run_model_test
from t2t_mm.train_step import NUMBERS, TrainSteps
from t2t_mm.training_state import TrainingState
from tests.made.models import SMALLEST

WORDS = Feature("text", vocabulary="words")
LABELS = Feature("class_label", vocabulary="kinds", labels=tuple("abcde"))
INPUTS = {
    "text": WORDS,
    "image": Feature("image", height=13, width=7),
    "audio": Feature("audio", sample_rate=8000),
}
TARGETS = {"text": WORDS, "class_label": LABELS}
SIZES = {"words": 23, "kinds": 5}
PROBLEMS = {
    f"{source}_to_{target}": made_up_problem(
        f"{source}_to_{target}", INPUTS[source], TARGETS[target], f"To-{target}"
    )
    for source in INPUTS
    for target in TARGETS
}
COMMON = {
    "hidden_size": 12,
    "dropout": 0.0,
    "num_heads": 2,
    "image_stages": 1,
    "audio_stages": 1,
    "image_filters": 4,
    "audio_filters": 4,
    "audio_mel_bins": 5,
    "learning_rate": 0.02,
    "schedule": "constant",
    "max_length": 7,
}
HPARAMS = {
    "multimodel": dataclasses.replace(SMALLEST, expert_size=11, **COMMON),
    "transformer": TransformerHParams(
        num_encoder_layers=1, num_decoder_layers=1, filter_size=31, **COMMON
    ),
}
LENGTHS = {"inputs": 801}  # of sounds, samples


@pytest.fixture(autouse=True, scope="module")
def quick_tracing():
    """Spends no time on making graphs fast that run a few times only."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    before.setdefault("disable_meta_optimizer", False)
    tf.config.optimizer.set_experimental_options(before)


def lengths_of(problem):
    return LENGTHS if problem.inputs.modality == AUDIO else {}


def test_every_registered_model_is_tried_here():
    assert set(registry.models.names()) == set(HPARAMS)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("model_name", HPARAMS)
def test_a_model_learns_one_batch_by_heart_and_decodes_it(model_name, name):
    keras.utils.set_random_seed(1)
    hparams, problem = HPARAMS[model_name], PROBLEMS[name]
    model = build_model(model_name, hparams, [problem], SIZES)
    optimizer = make_optimizer(hparams, model.trainable_variables, 100)
    state = TrainingState(model, optimizer, [name])
    steps = TrainSteps(state, {name: batch_signature(problem)}, clip_norm=1.0)
    batch = made_up_batch(
        problem, SIZES, num_examples=3, lengths={"targets": 5} | lengths_of(problem)
    )
    losses = []
    for _ in range(150):
        numbers, _ = steps(name, batch)
        numbers = dict(zip(NUMBERS, numbers.numpy(), strict=True))
        losses.append(numbers["loss_sum"] / numbers["weight"])
        if losses[-1] < 0.02:
            break
    assert np.all(np.isfinite(losses))
    assert losses[1] != losses[0] > 1
    assert losses[-1] < 0.1, losses[::10]
    if problem.targets.modality == CLASS_LABEL:
        found = ranked_classes(model, name, batch)
        assert (found["probabilities"].numpy()[:, 0] > 0.8).all()
    else:
        longest = tf.constant(5)
        found = sequences(model, name, batch, DecodeHParams(), max_length=longest)
        found = {"ids": found["ids"][:, 0]}
    expected = batch["targets"] * batch["targets_mask"]
    np.testing.assert_array_equal(found["ids"], expected)


@pytest.mark.parametrize("model_name", HPARAMS)
def test_models_keep_their_laws_on_all_pairings_at_once(model_name):
    hparams = dataclasses.replace(
        HPARAMS[model_name],
        dropout=0.1,
        decode_classes=True,
        image_stages=2,
        audio_stages=2,
        audio_alignment_weight=0.3,
    )
    chosen = ["text_to_text", "image_to_class_label", "audio_to_text"]
    problems = [PROBLEMS[name] for name in chosen]
    run_model_test(model_name, hparams, problems, SIZES)

"""What every modality that can be a target promises to loops that decode."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm import registry
from t2t_mm.bin import command
from t2t_mm.configuration import HParams
from t2t_mm.modalities.base import Modality
from t2t_mm.modalities.text import TextModality
from t2t_mm.problem import NUM_SPELLED, Feature
from t2t_mm.testing import dtype_policy

WORDS = Feature("text", vocabulary="words")
SPELLED = Feature("text", vocabulary="words", spelled=True)
ANIMALS = Feature("class_label", vocabulary="animals", labels=("ant", "bee", "cat"))
SIZES = {"words": 263, "animals": 3}
# By feature: the rows' size over D, and how many logits there are.
TARGETS = {WORDS: (1, 263), SPELLED: (1, NUM_SPELLED), ANIMALS: (2, 3)}
# bfloat16 keeps 8 bits: sums in another order differ in the last of them.
TOLERANCES = {"float32": 1e-5, "mixed_bfloat16": 2**-6}


def built(modality_class, feature, **changes):
    """Makes a modality whose biases are not all zero."""
    hparams = HParams(hidden_size=7, dropout=0.0, **changes)
    modality = modality_class(hparams, [feature], SIZES)
    modality.build()
    rng = np.random.default_rng(1)
    for variable in modality.trainable_variables:
        if variable.path.endswith("bias"):
            variable.assign(rng.normal(size=variable.shape))
    return modality


def rows_of(feature, count, modality):
    """Draws representations [count, D] in the numbers that the modality computes in."""
    x = np.random.default_rng(2).normal(size=(count, 7 * TARGETS[feature][0]))
    return tf.cast(x, modality.compute_dtype)


def test_the_targets_here_are_all_there_are():
    command.load_zoo()
    classes = [registry.modalities.get(name) for name in registry.modalities.names()]
    possible = {one.registered_name for one in classes if one.top is not Modality.top}
    assert possible == {feature.modality for feature in TARGETS}


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("feature", TARGETS, ids=["words", "spelled", "labels"])
def test_what_is_prepared_for_a_loop_gives_the_same_logits(
    feature, count, tie, precision
):
    with dtype_policy(precision):
        modality_class = registry.modalities.get(feature.modality)
        modality = built(modality_class, feature, tie_embeddings=tie)
        x = rows_of(feature, count, modality)
        expected = modality.top(x, feature=feature)
        prepared = modality.prepared_top(feature=feature)
        for found in (prepared(x), tf.function(prepared)(x)):
            assert found.dtype == tf.float32
            assert found.shape == (count, TARGETS[feature][1])
            size = np.abs(expected).max()
            np.testing.assert_allclose(
                found, expected, atol=TOLERANCES[precision] * size
            )


def test_a_subclass_decodes_with_its_own_logits():
    class Halved(TextModality):
        def top(self, x, *, feature):
            return super().top(x, feature=feature) / 2

    modality = built(Halved, WORDS)
    x = rows_of(WORDS, 3, modality)
    found = modality.prepared_top(feature=WORDS)(x)
    np.testing.assert_allclose(found, modality.top(x, feature=WORDS), atol=1e-6)

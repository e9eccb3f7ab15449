import dataclasses

import numpy as np
import pytest

from t2t_mm.configuration import HParams
from t2t_mm.modalities.text import TextModality, TextNet
from t2t_mm.problem import Feature
from t2t_mm.testing import run_modality_test

WORDS = Feature("text", vocabulary="words")
OTHERS = Feature("text", vocabulary="others")
HPARAMS = HParams(hidden_size=6)


def made(features, sizes, **changes):
    hparams = dataclasses.replace(HPARAMS, **changes)
    modality = TextModality(hparams, features, sizes, name="text")
    modality.build()
    return modality


def test_ids_become_rows_times_the_root_of_the_size():
    modality = made([WORDS], {"words": 11})
    ids, mask = np.array([[3, 7, 1], [10, 1, 0]]), np.ones((2, 3), bool)
    found = modality.bottom(ids, mask, feature=WORDS, training=False)
    expected = modality.nets["words"].embedding.numpy()[ids] * 6**0.5
    np.testing.assert_allclose(found.x, expected, rtol=1e-5)
    np.testing.assert_allclose(modality.targets_bottom(ids, feature=WORDS), found.x)
    assert found.mask is mask
    assert found.grid is None


@pytest.mark.parametrize("leading", [(2,), (2, 3)])
def test_vectors_become_logits_by_a_linear_map(leading):
    modality = made([WORDS], {"words": 11})
    net = modality.nets["words"]
    net.bias.assign(np.arange(11, dtype=np.float32))
    x = np.random.default_rng(0).normal(size=(*leading, 6)).astype(np.float32)
    got = modality.top(x, feature=WORDS)
    expected = x @ net.softmax.numpy().T + np.arange(11)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_embeddings_are_tied_when_asked():
    tied, free = (
        made([WORDS], {"words": 11}, tie_embeddings=tie).nets["words"]
        for tie in (True, False)
    )
    assert tied.softmax is tied.embedding
    assert free.softmax is not free.embedding
    assert np.abs(free.softmax.numpy() - free.embedding.numpy()).max() > 0.1
    assert len(tied.weights) == 2 < len(free.weights) == 3


def test_weights_are_shared_by_name_and_not_by_size():
    modality = made([WORDS, OTHERS, WORDS], {"words": 11, "others": 11})
    assert set(modality.nets) == {"words", "others"}
    first, second = (modality.nets[name].embedding for name in ("words", "others"))
    assert first is not second
    assert first.path != second.path
    ids = np.array([[3, 4]])
    one, other = (
        modality.targets_bottom(ids, feature=feature) for feature in (WORDS, OTHERS)
    )
    assert np.abs(one - other).max() > 0.01


def test_a_vocabulary_that_no_feature_names_has_no_weights():
    assert set(made([WORDS], {"words": 11, "others": 13}).nets) == {"words"}


def test_text_keeps_the_laws_of_modalities():
    sizes = {"words": 11}
    unused = run_modality_test("text", WORDS, HPARAMS, vocabularies=sizes)
    assert {path.rpartition("/")[2] for path in unused} == {"softmax", "bias"}
    run = run_modality_test("text", WORDS, HPARAMS, vocabularies=sizes, role="targets")
    assert not run


def test_a_net_says_what_it_is():
    net = TextNet(11, 6, tie=True)
    assert (net.size, net.depth, net.tie) == (11, 6, True)


def test_losses_are_of_the_logits_that_a_subclass_gives():
    class Halved(TextModality):
        def top(self, x, *, feature):
            return super().top(x, feature=feature) / 2

    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    labels, mask = np.array([1, 10, 4], np.int32), np.ones(3, bool)
    options = {"feature": WORDS, "label_smoothing": 0.0, "mask": mask}
    own, halved = made([WORDS], {"words": 11}), Halved(HPARAMS, [WORDS], {"words": 11})
    halved.build()
    for variable, other in zip(halved.weights, own.weights, strict=True):
        variable.assign(other)
    for modality, factor in ((own, 1), (halved, 2)):
        logits = own.top(x, feature=WORDS).numpy() / factor
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        loss, count, _ = modality.cross_entropy(x, labels, **options)
        np.testing.assert_allclose(loss, -log_p[range(3), labels].sum(), rtol=1e-5)
        assert float(count) == 3

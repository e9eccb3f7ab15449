"""Every registered set of hparams, whatever its size: walks the registry."""

import dataclasses

import pytest

import t2t_mm.hparams  # noqa: F401  (fills the registry)
from t2t_mm import registry
from t2t_mm.configuration import named_hparams, override, parse_overrides
from t2t_mm.made_up_batches import made_up_problem
from t2t_mm.problem import Feature
from t2t_mm.testing import run_hparams_test

WORDS = Feature("text", vocabulary="words")
INPUTS = [WORDS, Feature("image", height=32, width=48), Feature("audio")]
TARGETS = [WORDS, Feature("class_label", vocabulary="kinds", labels=tuple("abc"))]
PROBLEMS = [
    made_up_problem(f"{one.modality}_to_{other.modality}", one, other, "To-Test")
    for one in INPUTS
    for other in TARGETS
]
SIZES = {"words": 8192, "kinds": 3}


@pytest.mark.parametrize("named_set", registry.hparams.names())
def test_a_set_is_described_saved_and_makes_a_model(named_set):
    count = run_hparams_test(named_set, PROBLEMS, SIZES)
    tiny, paper = named_set.endswith("_tiny"), named_set.endswith("_paper")
    assert count < 1e7 if tiny else count > 1e7
    assert count > 4e9 if paper else count < 1e9


def test_the_papers_set_has_the_papers_sizes():
    hparams = named_hparams("multimodel_paper")
    assert (hparams.hidden_size, hparams.num_experts) == (1024, 240)
    assert (hparams.experts_per_position, hparams.dropout) == (4, 0.5)
    assert (hparams.encoder_blocks, hparams.decoder_blocks) == (6, 4)
    assert hparams.image_stages == 4  # 299 pixels to 361 positions


@pytest.mark.parametrize("named_set", registry.hparams.names())
def test_a_misspelt_field_is_an_error_and_changes_nothing(named_set):
    hparams = named_hparams(named_set)
    with pytest.raises(ValueError, match="'hiden_size'; expected .* Nearest: hidden"):
        override(hparams, hiden_size=3)
    with pytest.raises(ValueError, match="Nearest: hidden_size"):
        parse_overrides("hiden_size=3", hparams)
    with pytest.raises(TypeError):
        dataclasses.replace(hparams, hiden_size=3)


def test_the_tiny_set_has_the_experts_it_says():
    # Tensor2Tensor's set wrote to a misspelt field and kept 30 experts in silence.
    hparams = named_hparams("multimodel_tiny")
    assert hparams.num_experts == 8
    assert override(hparams, num_experts=3).num_experts == 3

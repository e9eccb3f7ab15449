"""Metrics against literals that can be worked out by hand, and their packages."""

import math
import subprocess
import sys

import pytest

from t2t_mm import metrics, registry

NAMES = [
    "bleu", "chrf", "exact_match", "word_f1", "rouge_l", "wer", "cer",
    "bracket_f1", "exact_tree", "well_formed", "top1", "top5",
]  # fmt: skip
TEXT_NAMES = [name for name in NAMES if not name.startswith("top")]


def score(name, references, predictions):
    return metrics.score([name], references, predictions)[name]


def test_every_metric_is_registered_and_described():
    assert set(NAMES) <= set(registry.metrics.names())
    for name in NAMES:
        metric = registry.metrics.get(name)
        assert metric.title and metric.unit in (metrics.SHARE, metrics.POINTS)
        assert metric.higher_is_better is (name not in ("wer", "cer"))
        assert registry.metrics.describe(name)


@pytest.mark.parametrize("name", NAMES)
def test_no_examples_have_no_score(name):
    assert math.isnan(score(name, [], []))


@pytest.mark.parametrize("name", NAMES)
def test_unequal_numbers_are_refused(name):
    with pytest.raises(ValueError, match="1 references and 0 predictions"):
        score(name, ["a"], [])


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_empty_predictions_get_the_worst_score(name):
    expected = 1.0 if name in ("wer", "cer") else 0.0
    assert score(name, ["(S NN )S", "a b"], ["", ""]) == expected


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_equal_text_has_a_hundred_points(name):
    text = ["the cat sat on the mat today"]
    assert score(name, text, text) == pytest.approx(100)


def test_bleu_by_hand():
    # 5 of 5 words, 2 of 4 pairs, 1 of 3 triples, 0 of 2 fours, which sacreBLEU
    # smooths to half an answer; equal lengths, so no brevity penalty.
    precisions = (5 / 5, 2 / 4, 1 / 3, 1 / 4)
    by_hand = 100 * math.prod(precisions) ** 0.25
    assert score("bleu", ["a b c e d"], ["a b c d e"]) == pytest.approx(by_hand)


def test_signatures_name_the_package_version():
    found = metrics.signatures(["bleu", "chrf", "wer"])
    assert set(found) == {"bleu", "chrf"}
    assert all("version:" in text for text in found.values())


def test_exact_match_ignores_blanks_at_the_ends():
    assert score("exact_match", ["a b", "c", "d"], [" a b", "C", "e"]) == 1 / 3


def test_word_f1_counts_words_as_often_as_both_have_them():
    # 2 shared of 3 + 2; then nothing shared.
    assert score("word_f1", ["red red car", "dog"], ["car: red", "cat"]) == (
        pytest.approx((4 / 5 + 0) / 2)
    )


def test_word_f1_of_texts_without_words_asks_for_equality():
    assert score("word_f1", ["!", "?"], ["!", "!"]) == 0.5


def test_words_have_letters_of_every_language():
    assert metrics.words_of("Élan, GROSS-artig") == ["élan", "gross", "artig"]


def test_rouge_l_needs_the_order():
    # Longest common subsequence of length 2; precision 2/3, recall 2/4.
    assert score("rouge_l", ["a b c d"], ["b a d"]) == pytest.approx(4 / 7)
    assert score("rouge_l", ["größe"], ["größe"]) == 1.0


def test_wer_is_over_the_corpus_and_may_exceed_one():
    # One change and one word left out, of 5 words.
    assert score("wer", ["one two three", "four five"], ["one too three", "four"]) == (
        pytest.approx(2 / 5)
    )
    assert score("wer", ["one"], ["one two three"]) == 2.0


def test_cer_counts_characters():
    assert score("cer", ["abcd", "xy"], ["abed", "xyz"]) == pytest.approx(2 / 6)


@pytest.mark.parametrize("name", ["wer", "cer"])
def test_error_rates_of_empty_references(name):
    assert score(name, ["", " "], ["", ""]) == 0.0
    assert score(name, [""], ["word"]) == 1.0


def test_tree_metrics():
    references = ["(S (NP NN )NP VBD )S", "(S NN )S"]
    predictions = ["(S (NP NN )NP  VBD )S", "(S NN"]
    assert score("bracket_f1", references, predictions) == 1.0
    assert score("exact_tree", references, predictions) == 0.5
    assert score("well_formed", references, predictions) == 0.5


def test_top_metrics_read_ranked_labels():
    references = ["a", "b", "c"]
    predictions = [
        ["a", "b"],
        ["x", "y", "z", "w", "b"],
        ["x", "y", "z", "v", "w", "c"],
    ]
    assert score("top1", references, predictions) == 1 / 3
    assert score("top5", references, predictions) == 2 / 3


def test_top_metrics_refuse_plain_text():
    with pytest.raises(TypeError, match="list of labels"):
        score("top1", ["a"], ["a"])


def test_scores_are_printed_in_their_unit():
    assert metrics.format_score("chrf", 41.26) == "41.3"
    assert metrics.format_score("bracket_f1", 0.305) == "30.5 %"
    assert metrics.format_score("wer", math.nan) == "n/a"
    assert metrics.format_score("wer", None) == "n/a"


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(registry.UnknownNameError, match="bleu"):
        score("blue", ["a"], ["a"])


def test_importing_metrics_imports_no_heavy_package():
    code = (
        "import sys, t2t_mm.metrics\n"
        "heavy = {'tensorflow', 'sacrebleu', 'jiwer', 'rouge_score', 'nltk'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

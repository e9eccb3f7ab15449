"""Tree reading and bracket scoring against cases counted by hand."""

from collections import Counter

import nltk
import pytest

from t2t_mm import trees
from t2t_mm.trees import Tree

SENTENCE = "(S (NP DT NN )NP (VP VBD )VP . )S"

ILL_FORMED = {
    "": "0 things",
    "DT NN": "2 things",
    "NN": "1 things",
    "(S DT": "'\\(S' is not closed",
    "DT )S": "closes nothing",
    "(S DT )NP": "closes nothing",
    "(S (NP DT )S )NP": "closes nothing",
    "(S )S": "closes nothing",
    "(S (NP )NP NN )S": "closes nothing",
    "(S DT )S (S NN )S": "2 things",
    "(S DT )S .": "2 things",
    "( DT )": "has no label",
    "(S ) )S": "has no label",
}


def test_parse_reads_the_documented_sentence():
    assert trees.parse(SENTENCE) == Tree(
        "S", (Tree("NP", ("DT", "NN")), Tree("VP", ("VBD",)), ".")
    )


def test_linear_then_parse_is_the_identity():
    tree = trees.parse(SENTENCE)
    assert tree.linear() == SENTENCE
    assert trees.parse(tree.linear()) == tree


def test_leaves_and_depth():
    tree = trees.parse("(S (NP (NP DT NN )NP (PP IN (NP NN )NP )PP )NP VBD )S")
    assert tree.leaves() == ["DT", "NN", "IN", "NN", "VBD"]
    assert tree.depth() == 4


@pytest.mark.parametrize("text", ILL_FORMED)
def test_an_ill_formed_tree_is_refused_with_its_reason(text):
    with pytest.raises(ValueError, match=ILL_FORMED[text]):
        trees.parse(text)
    assert not trees.is_well_formed(text)


def test_spans_count_leaves_without_punctuation_and_keep_the_root():
    assert trees.spans(SENTENCE) == Counter(
        {("NP", 0, 2): 1, ("VP", 2, 3): 1, ("S", 0, 3): 1}
    )


def test_a_bracket_of_punctuation_alone_counts_for_nothing():
    assert trees.spans("(S NN (X . )X )S") == Counter({("S", 0, 1): 1})


def test_wrapper_above_the_sentence_is_no_bracket():
    assert trees.spans("(TOP (S NN )S )TOP") == Counter({("S", 0, 1): 1})


def test_prt_is_taken_for_advp():
    assert trees.spans("(PRT RP )PRT") == trees.spans("(ADVP RP )ADVP")


def test_unary_chain_of_one_label_counts_twice():
    assert trees.spans("(NP (NP NN )NP )NP") == Counter({("NP", 0, 1): 2})


@pytest.mark.parametrize(
    ("broken", "repaired"),
    [
        ("(S (NP DT NN", "(S (NP DT NN )NP )S"),
        ("(S (NP DT NN )S", "(S (NP DT NN )NP )S"),
        ("(S DT )NP NN )S", "(S DT NN )S"),
        ("DT NN )NP )S", "DT NN"),
        ("(S (NP )NP NN )S", "(S NN )S"),
        ("(S (NP DT (VP NN )NP VBD )VP )S", "(S (NP DT (VP NN )VP )NP VBD )S"),
        ("(S DT )S (S NN )S", "(S DT )S (S NN )S"),
        ("(NP (NP (NP", ""),
        ("", ""),
        ("( DT )", "DT"),
    ],
)
def test_ill_formed_trees_are_repaired_as_documented(broken, repaired):
    assert trees.spans(broken) == trees.spans(repaired)


def test_score_of_a_perfect_prediction_is_one():
    score = trees.bracket_score([SENTENCE], [SENTENCE])
    assert (score.matched, score.expected, score.predicted) == (3, 3, 3)
    assert score.precision == score.recall == score.f1 == 1.0


def test_score_counts_label_and_both_ends():
    # Expected: S 0-3, NP 0-2, VP 2-3. Predicted: S 0-3, NP 0-1, VP 1-3, XP 2-3.
    score = trees.bracket_score(
        [SENTENCE], ["(S (NP DT )NP (VP NN (XP VBD )XP )VP . )S"]
    )
    assert (score.matched, score.expected, score.predicted) == (1, 3, 4)
    assert score.f1 == pytest.approx(2 / 7)


def test_duplicated_bracket_matches_only_as_often_as_expected():
    score = trees.bracket_score(["(S (NP NN )NP )S"], ["(S (NP (NP NN )NP )NP )S"])
    assert (score.matched, score.expected, score.predicted) == (2, 2, 3)
    assert score.f1 == pytest.approx(4 / 5)


def test_crossing_brackets_do_not_match():
    score = trees.bracket_score(["(S (NP A B )NP C )S"], ["(S A (NP B C )NP )S"])
    assert (score.matched, score.expected, score.predicted) == (1, 2, 2)


def test_score_is_summed_over_the_corpus_before_dividing():
    # 1 of 1 and 1 bracket, then 0 of 5 and 1: F1 = 2 * 1 / (6 + 2).
    long = "(S (A x )A (B x )B (C x )C (D x )D )S"
    score = trees.bracket_score(["(S NN )S", long], ["(S NN )S", "(Q x )Q"])
    assert (score.matched, score.expected, score.predicted) == (1, 6, 2)
    assert score.f1 == pytest.approx(0.25)


def test_empty_prediction_loses_recall_but_adds_no_bracket():
    score = trees.bracket_score([SENTENCE, SENTENCE], [SENTENCE, ""])
    assert (score.precision, score.recall) == (1.0, 0.5)


def test_nothing_against_nothing_is_zero():
    score = trees.bracket_score([], [])
    assert score.f1 == score.precision == score.recall == 0.0


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError):
        trees.bracket_score([SENTENCE], [])


def test_wrong_tags_alone_cost_no_bracket():
    assert trees.bracket_score(["(NP DT NN )NP"], ["(NP JJ NNS )NP"]).f1 == 1.0


def test_nltk_tree_loses_words_and_function_suffixes():
    source = nltk.Tree.fromstring(
        "(S (NP-SBJ-1 (DT the) (NN dog)) (VP (VBD ran)) (. .))"
    )
    assert trees.from_nltk(source).linear() == SENTENCE


def test_nltk_keeps_special_labels_and_names_the_wrapper():
    source = nltk.Tree.fromstring("( (S (NP=2 (-NONE- *T*)) (NN dog)))")
    assert trees.from_nltk(source).linear() == ("(TOP (S (NP -NONE- )NP NN )S )TOP")


def test_nltk_word_without_tag_is_refused():
    with pytest.raises(ValueError, match="'dog' stands directly in 'NP'"):
        trees.from_nltk(
            nltk.Tree("S", [nltk.Tree("NP", [nltk.Tree("DT", ["a"]), "dog"])])
        )

import pytest

from t2t_mm import trees
from t2t_mm.problems.head_projection import Token, linearised_tree


def tree_of(rows):
    return linearised_tree([Token(head, rel, tag) for head, rel, tag in rows])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(
            [(1, "det", "DT"), (2, "nsubj", "NN"), (2, "ROOT", "VBD")]
            + [(2, "punct", ".")],
            "(S (NP DT NN )NP (VP VBD )VP . )S",
            id="The dog barked.",
        ),
        pytest.param(
            [(1, "nsubj", "PRP"), (1, "ROOT", "VBD"), (5, "mark", "IN")]
            + [(5, "nsubj", "PRP"), (5, "aux", "MD"), (1, "ccomp", "VB")],
            "(S (NP PRP )NP (VP VBD (SBAR IN (S (NP PRP )NP (VP MD VB )VP )S )SBAR )VP "
            ")S",
            id="He said that he would go",
        ),
        pytest.param(
            [(1, "det", "DT"), (4, "nsubj", "NN"), (3, "nsubj", "WP")]
            + [(1, "relcl", "VBD"), (4, "ROOT", "VBD"), (4, "acomp", "JJ")],
            "(S (NP (NP DT NN )NP (SBAR (S (NP WP )NP (VP VBD )VP )S )SBAR )NP "
            "(VP VBD (ADJP JJ )ADJP )VP )S",
            id="The man who came was tall",
        ),
        pytest.param(
            [(3, "aux", "MD"), (2, "det", "DT"), (3, "nsubj", "NN")]
            + [(3, "ROOT", "VB"), (3, "prep", "IN"), (4, "pobj", "NN")],
            "(S MD (NP DT NN )NP (VP VB (PP IN (NP NN )NP )PP )VP )S",
            id="May the man go by train",
        ),
        pytest.param(
            [(1, "amod", "JJ"), (1, "ROOT", "NN"), (1, "punct", ".")],
            "(S (NP JJ NN )NP . )S",
            id="Good morning.",
        ),
        pytest.param(
            [(1, "poss", "NN"), (2, "poss", "NN"), (2, "ROOT", "NN")],
            "(S (NP (NP NN NN )NP NN )NP )S",
            id="father house door",
        ),
        pytest.param(
            [(2, "aux", "VBP"), (2, "neg", "RB"), (2, "ROOT", "VB")]
            + [(2, "advmod", "RB"), (2, "cc", "CC"), (2, "conj", "VB")],
            "(S (VP VBP RB VB (ADVP RB )ADVP CC (VP VB )VP )VP )S",
            id="Do not go away or stay",
        ),
        pytest.param([(0, "ROOT", "UH")], "(S UH )S", id="Oh"),
    ],
)
def test_a_parse_becomes_the_tree_a_reader_expects(rows, expected):
    assert tree_of(rows) == expected
    assert trees.parse(expected).leaves() == [tag for _, _, tag in rows]


def test_a_parse_whose_phrases_are_torn_apart_has_no_tree():
    # The third word hangs on the first, across the root.
    assert tree_of([(1, "nsubj", "NN"), (1, "ROOT", "VB"), (0, "relcl", "VB")]) is None


def test_a_parse_of_two_sentences_has_no_tree():
    assert tree_of([(0, "ROOT", "VB"), (1, "ROOT", "VB")]) is None

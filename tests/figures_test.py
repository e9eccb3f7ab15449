"""Curves and trees as SVG for the report."""

import re

from t2t_mm import figures
from t2t_mm.run_history import Curve

TREE = "(S (NP DT NN )NP (VP VBD )VP )S"


def test_a_drawn_tree_marks_the_brackets_that_are_wrong():
    drawing = figures.tree_drawing("(S (NP DT )NP (VP NN VBD )VP )S", TREE)
    assert drawing.count('class="bracket wrong"') == 2
    assert figures.tree_drawing(TREE, TREE).count("wrong") == 0


def test_a_drawn_tree_shows_the_words_if_there_is_one_for_each_leaf():
    assert ">dog</text>" in figures.tree_drawing(TREE, TREE, "the dog ran")
    assert ">dog</text>" not in figures.tree_drawing(TREE, TREE, "dog")


def test_what_is_no_tree_is_not_drawn():
    assert figures.tree_drawing("(S NN", TREE) is None


def test_a_drawn_tree_escapes_its_labels():
    drawing = figures.tree_drawing("(<b> <i> )<b>", TREE)
    assert "<b>" not in drawing and "&lt;i&gt;" in drawing


def test_two_charts_of_a_page_share_no_id_and_no_fixed_colour():
    line = figures.Line("x", Curve((1, 2), (0.5, 0.7)), "accent")
    charts = [
        figures.line_chart([line], last_step=2, percent=True, prefix=prefix)
        for prefix in ("a", "b")
    ]
    ids = [set(re.findall(r'id="([^"]+)"', chart)) for chart in charts]
    assert not ids[0] & ids[1]
    assert "var(--accent)" in charts[0] and "#0102" not in charts[0]


def test_the_same_chart_is_drawn_the_same_twice():
    line = figures.Line("x", Curve((1, 2), (0.5, 0.7)), "accent")
    first, second = (
        figures.line_chart([line], last_step=2, percent=False, prefix="a")
        for _ in range(2)
    )
    assert first == second


def test_words_are_parted_from_marks_and_endings_where_the_leaves_are():
    assert figures._words_for(["VB", "."], "Go!") == ["Go", "!"]
    assert figures._words_for(["NN", "POS", "NN"], "dog's nose") == [
        "dog",
        "'s",
        "nose",
    ]
    assert figures._words_for(["VB"], "Go on!") == [""]

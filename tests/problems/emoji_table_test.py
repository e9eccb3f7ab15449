import pytest

from t2t_mm.problems import emoji_table
from t2t_mm.problems.emoji_table import concept_of


@pytest.mark.parametrize(
    ("same", "of_concept"),
    [
        (("1F469-200D-1F3A4", "1F468-1F3FF-200D-1F3A4"), "adult-1F3A4"),
        (("1F46E", "1F46E-1F3FB", "1F46E-1F3FB-200D-2642-FE0F"), "1F46E"),
        (("1F46B", "1F9D1-1F3FB-200D-1F91D-200D-1F9D1-1F3FC"), "adult-1F91D-adult"),
        (("1F46A", "1F468-200D-1F469-200D-1F466"), "family"),
        (("1F3C3", "1F3C3-200D-27A1-FE0F"), "1F3C3"),
        (("2764-FE0F",), "2764"),
        (("1F1E9-1F1EA",), "1F1E9-1F1EA"),
    ],
)
def test_tones_roles_and_directions_do_not_change_the_concept(same, of_concept):
    assert {concept_of(code) for code in same} == {of_concept}


def test_the_table_is_whole_and_sorted(tmp_dir):
    rows = emoji_table.load(tmp_dir)
    codes = [row.code for row in rows]
    assert codes == sorted(set(codes))
    for row in rows:
        assert all(row.names[language] for language in emoji_table.LANGUAGES)
        assert not any(mark in row.names["en"] for mark in "_:")


def test_a_concept_is_in_one_split_with_all_its_combinations(tmp_dir):
    split_of = {}
    for row in emoji_table.load(tmp_dir):
        assert split_of.setdefault(row.concept, row.concept_split) == row.concept_split
        if row.concept_split != "train":
            assert row.split == row.concept_split
        elif row.split != "train":
            assert row.is_combination


def test_a_held_out_combination_leaves_others_of_its_concept_in_training(tmp_dir):
    rows = emoji_table.load(tmp_dir)
    trained = {row.concept for row in rows if row.split == "train"}
    held_out = [row for row in rows if emoji_table.naming_split(row) == "test"]
    assert held_out
    assert {row.concept for row in held_out} <= trained

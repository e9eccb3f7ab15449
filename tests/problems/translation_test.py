import collections

import pytest

from t2t_mm.problem import get_problem
from t2t_mm.problems import emoji_table, splits, translation

NAMES = (
    "translate_ende_home",
    "translate_deen_home",
    "translate_enfr_home",
    "translate_fren_home",
)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_clean_short_and_unique_by_input(name, tmp_dir):
    problem = get_problem(name)
    for split in problem.splits:
        examples = list(problem.generate(split, tmp_dir))
        inputs = [example["inputs"] for example in examples]
        assert examples
        assert len(set(inputs)) == len(inputs)
        assert len(examples) <= problem.max_examples.get(split, len(examples))
        for text in (text for example in examples for text in example.values()):
            assert 1 <= len(text.split()) <= problem.max_words
            assert not set("{}<>|") & set(text)


@pytest.mark.parametrize("name", NAMES)
def test_strings_that_differ_in_digits_alone_are_few(name, tmp_dir):
    problem = get_problem(name)
    column = "inputs" if problem.from_english else "targets"
    for split in problem.splits:
        keys = collections.Counter(
            splits.normalised(example[column])
            for example in problem.generate(split, tmp_dir)
        )
        most = problem.max_alike if split == "train" else 1
        assert max(keys.values()) <= most


def test_the_directions_mirror_each_other(stand_ins):
    there = {
        (e["inputs"], e["targets"])
        for e in translation.TranslateEndeHome().generate("test", stand_ins)
    }
    back = {
        (e["targets"], e["inputs"])
        for e in translation.TranslateDeenHome().generate("test", stand_ins)
    }
    assert there
    assert there == back


def test_the_name_of_a_held_out_emoji_goes_where_the_emoji_goes(stand_ins):
    held_out = emoji_table.held_out_names(stand_ins)
    test = translation.TranslateEndeHome().generate("test", stand_ins)
    moved = [e for e in test if splits.normalised(e["inputs"]) in held_out]
    assert len(moved) == 1
    assert moved[0]["targets"] == f"de {moved[0]['inputs']}"


def test_placeholders_and_lopsided_pairs_are_left_out():
    problem = translation.TranslateEndeHome()
    assert problem._is_clean("Open the door", "Öffne die Tür")
    assert not problem._is_clean("{name} is on", "{name} ist an")
    assert not problem._is_clean("Port", "ein zwei drei vier fünf")
    assert not problem._is_clean("5 %", "5 %")
    assert not problem._is_clean("", "leer")

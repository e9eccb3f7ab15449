"""One concept, all modalities: what is held out of one problem is held out of all.

Runs on stand-ins, or on the real downloads in T2T_MM_TMP_DIR.
"""

import functools

import pytest

import t2t_mm.problems  # noqa: F401
from t2t_mm.problem import get_problem
from t2t_mm.problems import emoji_table
from t2t_mm.problems.splits import normalised
from t2t_mm.problems.spoken_text import in_spoken_words

TRANSLATIONS = (
    "translate_ende_home",
    "translate_deen_home",
    "translate_enfr_home",
    "translate_fren_home",
)
PICTURES = (
    "image_emoji",
    "image_emoji_subgroups",
    "caption_emoji",
    "caption_emoji_de",
    "caption_emoji_fr",
)


@functools.cache
def texts(name, split, tmp_dir, column):
    """Gives the normalised texts of a column."""
    examples = get_problem(name).generate(split, tmp_dir)
    return frozenset(normalised(example[column]) for example in examples)


def english(name, split, tmp_dir):
    problem = get_problem(name)
    column = (
        "inputs"
        if getattr(problem, "from_english", name == "parsing_silver")
        else "targets"
    )
    return texts(name, split, tmp_dir, column)


def rows_of(name, split, tmp_dir):
    problem = get_problem(name)
    return {e.code for e in emoji_table.load(tmp_dir) if problem.is_in(e, split)}


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_two_splits_of_any_two_problems_differ(name, tmp_dir):
    training = rows_of(name, "train", tmp_dir)
    assert training
    for other in PICTURES:
        for split in get_problem(other).splits[1:]:
            held_out = rows_of(other, split, tmp_dir)
            assert held_out
            assert not held_out & training


@pytest.mark.parametrize("name", PICTURES)
def test_no_picture_problem_trains_a_concept_that_classes_are_tested_on(name, tmp_dir):
    concepts = {e.code: e.concept for e in emoji_table.load(tmp_dir)}
    trained = {concepts[code] for code in rows_of(name, "train", tmp_dir)}
    for split in ("dev", "test"):
        tested = {concepts[code] for code in rows_of("image_emoji", split, tmp_dir)}
        assert not tested & trained
    unseen = rows_of("caption_emoji", "test_concepts", tmp_dir)
    assert not {concepts[code] for code in unseen} & trained


def test_test_captions_are_new_combinations_of_trained_concepts(tmp_dir):
    rows = {e.code: e for e in emoji_table.load(tmp_dir)}
    trained = {rows[c].concept for c in rows_of("caption_emoji", "train", tmp_dir)}
    for split in ("dev", "test"):
        for code in rows_of("caption_emoji", split, tmp_dir):
            assert rows[code].is_combination
            assert rows[code].concept in trained


@pytest.mark.parametrize("name", [*TRANSLATIONS, "speech_prompts", "speech_emoji"])
def test_no_problem_trains_on_the_name_of_a_held_out_emoji(name, tmp_dir):
    held_out = set(emoji_table.held_out_names(tmp_dir))
    trained_too = {
        normalised(e.names["en"])
        for e in emoji_table.load(tmp_dir)
        if e.split == "train"
    }
    spoken = {normalised(in_spoken_words(n)) for n in held_out - trained_too}
    training = english(name, "train", tmp_dir)
    assert training
    assert not (held_out - trained_too) & training
    if name == "speech_emoji":
        assert not spoken & training


@pytest.mark.parametrize("name", TRANSLATIONS)
@pytest.mark.parametrize("column", ["inputs", "targets"])
def test_no_side_of_a_training_pair_stands_in_dev_or_test(name, column, tmp_dir):
    training = texts(name, "train", tmp_dir, column)
    for split in ("dev", "test"):
        held_out = texts(name, split, tmp_dir, column)
        assert held_out
        assert not held_out & training


@pytest.mark.parametrize("name", [*TRANSLATIONS, "parsing_silver"])
def test_english_text_is_in_one_split_for_all_problems(name, tmp_dir):
    training = english(name, "train", tmp_dir)
    for other in (*TRANSLATIONS, "parsing_silver", "speech_prompts"):
        for split in ("dev", "test"):
            assert not english(other, split, tmp_dir) & training


@pytest.mark.parametrize("language", ["de", "fr"])
def test_both_directions_hold_out_the_same_foreign_text(language, tmp_dir):
    there, back = f"translate_en{language}_home", f"translate_{language}en_home"
    for split in ("dev", "test"):
        assert not texts(there, split, tmp_dir, "targets") & texts(
            back, "train", tmp_dir, "inputs"
        )
        assert not texts(back, split, tmp_dir, "inputs") & texts(
            there, "train", tmp_dir, "targets"
        )


def test_no_tested_utterance_is_heard_in_training(tmp_dir):
    training = texts("speech_prompts", "train", tmp_dir, "targets")
    words = {word for text in training for word in text.split()}
    for split in ("dev", "test", "test_sequences"):
        assert not texts("speech_prompts", split, tmp_dir, "targets") & training
    for text in texts("speech_prompts", "test_sequences", tmp_dir, "targets"):
        assert set(text.split()) <= words


def test_a_tested_sentence_is_in_no_joined_training_utterance(tmp_dir):
    training = texts("speech_prompts", "train", tmp_dir, "targets")
    for sentence in texts("speech_prompts", "test", tmp_dir, "targets"):
        assert not [text for text in training if f" {sentence} " in f" {text} "]

"""Learning of sub-words: the same bytes each time, and knowing when to do it again."""

import pathlib

import pytest

from t2t_mm.problem import get_problem
from t2t_mm.vocabulary import VocabularySpec, vocabulary_path
from t2t_mm.vocabulary_learning import (
    learn_vocabulary,
    stale_vocabularies,
    vocabulary_sources,
)

TEXTS = ["a b c", "c b a", "cab"]


def learn(folder, texts=TEXTS, name="small_words", seed=3):
    return learn_vocabulary(
        name,
        VocabularySpec(size=300, problems=("small_reverse", "small_tones")),
        texts,
        str(folder),
        seed=seed,
    )


def stale(folder, seed=3):
    return list(stale_vocabularies([get_problem("small_reverse")], str(folder), seed))


def test_equal_text_gives_equal_bytes(small_problems, tmp_path):
    learn(tmp_path / "one")
    learn(tmp_path / "two", texts=TEXTS + TEXTS)
    for name in ("small_words.subwords.model", "small_words.subwords.model.json"):
        contents = [(tmp_path / one / name).read_bytes() for one in ("one", "two")]
        assert contents[0] == contents[1]


def test_little_text_gives_fewer_ids_than_asked_for(small_problems, tmp_path):
    assert 259 < learn(tmp_path).size < 300


def test_no_text_is_an_error(small_problems, tmp_path):
    with pytest.raises(ValueError, match="small_words' came without training text"):
        learn(tmp_path, texts=["", ""])


def test_what_is_not_there_is_stale(small_problems, tmp_path):
    assert stale(tmp_path) == ["small_words"]


def test_what_was_learned_is_not_stale(small_problems, tmp_path):
    learn(tmp_path)
    assert stale(tmp_path) == []


def test_another_seed_makes_it_stale(small_problems, tmp_path):
    learn(tmp_path)
    assert stale(tmp_path, seed=4) == ["small_words"]


def test_another_version_of_a_source_makes_it_stale(small_problems, tmp_path):
    learn(tmp_path)
    small_problems.SmallTones.version = 2
    assert stale(tmp_path) == ["small_words"]


def test_a_damaged_file_makes_it_stale(small_problems, tmp_path):
    learn(tmp_path)
    path = pathlib.Path(vocabulary_path(str(tmp_path), "small_words"))
    path.write_bytes(path.read_bytes()[:-1])
    assert stale(tmp_path) == ["small_words"]


def test_bytes_are_never_learned(small_problems, tmp_path):
    problems = [get_problem("small_captions")]
    assert stale_vocabularies(problems, str(tmp_path), 3) == {}


def test_only_problems_with_its_text_are_sources(small_problems):
    spec = VocabularySpec(problems=("small_tones", "small_colours"))
    assert [one.name for one in vocabulary_sources("small_words", spec)] == [
        "small_tones"
    ]


def test_without_a_list_every_problem_that_names_it_is_a_source(small_problems):
    sources = vocabulary_sources("small_words", VocabularySpec())
    assert [one.name for one in sources] == ["small_reverse", "small_tones"]

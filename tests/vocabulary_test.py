"""Text <-> ids: every string comes back, ids mean what they should."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from t2t_mm import vocabulary
from t2t_mm.problem import NUM_SPELLED, Feature, Problem
from t2t_mm.record_bytes import packed_ids
from t2t_mm.vocabulary import EOS_ID, SubwordVocabulary, VocabularySpec
from t2t_mm.vocabulary_learning import learn_vocabulary

TEXTS = ["the cat sat", "the dog  sat", "(S (NP the dog )NP )S", "l'eau, don't", "12"]
# What sentencepiece, our escapes or its own marks could trip over.
TRAPS = list(" \n\t\r01.'()éß\u2581\u241b\u2585\u2047\u3000\ufeff\x00\x1f😀") + [
    *("<s>", "</s>", "<unk>", "<pad>", "<0x41>", "\u241b0", "\u241b1", "the", "sat")
]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("words"))
    return learn_vocabulary("words", VocabularySpec(size=320), TEXTS, folder, seed=1)


any_text = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.sampled_from(TRAPS)).map("".join),
)


@given(text=any_text)
@settings(max_examples=300)
@example(text="")
@example(text="  two  blanks  ")
@example(text="\u2581\u2581 \u241b")
def test_every_text_comes_back_from_subwords(words, text):
    ids = words.encode(text)
    assert words.decode(ids) == text
    assert all(vocabulary.UNKNOWN_ID < one < words.size for one in ids)


@given(text=any_text)
def test_every_text_comes_back_from_bytes(text):
    letters = vocabulary.ByteVocabulary("bytes")
    assert letters.decode(letters.encode(text)) == text


def test_decoding_stops_at_eos_and_skips_padding(words):
    ids = words.encode("the cat")
    assert words.decode([0, *ids, 1, *ids, 0]) == "the cat"
    assert words.decode([1]) == words.decode([]) == ""


@given(text=any_text)
@settings(max_examples=300)
@example(text="")
@example(text=" ")
@example(text="  two  blanks  ")
@example(text="a\tb\nc\u3000d\u00a0e \0 <0x41> </s> <unk>")
@example(text="\u2581\u2581 \u241b")
def test_ids_word_by_word_are_those_of_the_whole_text(words, text):
    [expected] = packed_ids([[*words.encode(text), EOS_ID]])
    assert words.packed_batch([text]) == [expected]
    assert words.packed_batch([text]) == [expected]  # now that its words are known


def test_sub_words_with_blanks_inside_are_found_in_the_whole_text(tmp_path):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["of the dog", "of the cat"] * 9),
        model_writer=model,
        model_type="bpe",
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_by_whitespace=False,
        minloglevel=2,
    )
    words = SubwordVocabulary("w", model.getvalue())
    pieces = [words.piece(one) for one in words.encode("of the dog")]
    assert pieces == ["\u2581of\u2581the\u2581dog"]
    [expected] = packed_ids([[*words.encode("of the dog"), EOS_ID]])
    assert words.packed_batch(["of the dog"]) == [expected]


def test_few_words_are_remembered(words, monkeypatch):
    monkeypatch.setattr(vocabulary, "_MAX_REMEMBERED", 30)
    before = words.packed_batch(["a dog", "one two"])
    for number in range(40):
        words.packed_batch([f"word{number}"])
    assert len(words._packed_words) < 20
    assert words.packed_batch(["a dog", "one two"]) == before


def test_a_batch_gives_the_ids_of_each_text(words):
    texts = ["the cat", "", "x"]
    assert words.encode_batch(texts) == [words.encode(text) for text in texts]


def test_bytes_are_their_number_plus_three():
    letters = vocabulary.ByteVocabulary("bytes")
    assert letters.encode("Az\xff") == [68, 125, 198, 194]
    assert letters.size == 259


def test_bytes_that_are_no_text_become_the_replacement_character():
    letters = vocabulary.ByteVocabulary("bytes")
    assert letters.decode([68, 3 + 0xFF, 2, 68]) == "A\ufffdA"


@pytest.mark.parametrize("wrong", [-1, 320, 10**6])
def test_an_id_that_is_too_large_is_refused(words, wrong):
    with pytest.raises(ValueError, match=f"Id {wrong} came to vocabulary 'words'"):
        words.decode([wrong])


def test_half_a_surrogate_pair_is_refused(words):
    for one in (words, vocabulary.ByteVocabulary("bytes")):
        with pytest.raises(ValueError, match="at position 1 half of a surrogate"):
            one.encode("a\ud800")


def test_the_first_word_has_the_ids_that_it_has_elsewhere(words):
    ids = words.encode("the")
    assert words.encode("sat the")[-len(ids) :] == ids


def test_words_punctuation_digits_and_brackets_are_pieces_of_their_own(words):
    assert words.pieces("(S dog, 12 )S") == ["▁(S", "▁dog", ",", "▁", "1", "2", "▁)S"]


def test_a_loaded_vocabulary_is_the_learned_one(own_registries, tmp_path):
    learned = learn_vocabulary("w", VocabularySpec(), TEXTS, str(tmp_path), seed=1)
    loaded = vocabulary.load_vocabulary("w", str(tmp_path))
    assert loaded.fingerprint == learned.fingerprint
    assert loaded.encode("the dog") == learned.encode("the dog")


def test_a_vocabulary_that_is_not_there_says_who_makes_it(own_registries, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"w\.subwords\.model .*mm-datagen"):
        vocabulary.load_vocabulary("w", str(tmp_path))


def test_a_file_that_is_no_vocabulary_is_refused(own_registries, tmp_path):
    (tmp_path / "w.subwords.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match="holds no sentencepiece model"):
        vocabulary.load_vocabulary("w", str(tmp_path))


def test_the_built_in_bytes_need_no_file(own_registries, tmp_path):
    assert vocabulary.load_vocabulary("bytes", str(tmp_path)).size == 259


@pytest.mark.parametrize("wrong", [{"kind": "words"}, {"size": 259}])
def test_a_spec_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="VocabularySpec came with"):
        VocabularySpec(**wrong)


class Colours(Problem):
    """Text to a label."""

    inputs = Feature("text", vocabulary="bytes")
    targets = Feature("class_label", vocabulary="colours", labels=("red", "blue"))


def test_sizes_count_words_and_labels():
    words = {"bytes": vocabulary.ByteVocabulary("bytes")}
    sizes = vocabulary.vocabulary_sizes([Colours()], words)
    assert sizes == {"bytes": 259, "colours": 2}


@pytest.mark.parametrize(
    "other",
    [
        Feature("class_label", vocabulary="colours", labels=("blue", "red")),
        Feature("class_label", vocabulary="bytes", labels=("red", "blue")),
    ],
)
def test_one_name_for_two_label_sets_is_refused(other):
    class Others(Colours):
        """Another."""

        targets = other

    words = {"bytes": vocabulary.ByteVocabulary("bytes")}
    with pytest.raises(ValueError, match="one name means one set"):
        vocabulary.vocabulary_sizes([Colours(), Others()], words)


def test_spelled_text_uses_the_first_ids_of_every_vocabulary(tmp_path):
    texts = ["hello", "", " two  blanks ", "wörld \u2581 \U0001f600"]
    learned = learn_vocabulary("w", VocabularySpec(), TEXTS, str(tmp_path), seed=1)
    for words in (learned, vocabulary.ByteVocabulary("bytes")):
        rows = words.spell_batch(texts)
        assert rows[0] == [3 + ord(letter) for letter in "hello"]
        assert all(0 <= one < NUM_SPELLED for row in rows for one in row)
        assert [words.decode(row) for row in rows] == texts

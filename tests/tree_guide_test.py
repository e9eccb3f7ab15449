import re

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.draws import chances
from t2t_mm.guides import FORBIDDEN, NoPadding
from t2t_mm.modalities.base import Represented
from t2t_mm.models.stepping import Stepper
from t2t_mm.search import Speaker, beam_search, row_by_row
from t2t_mm.tree_guide import TreeGuide
from t2t_mm.trees import is_well_formed, parse
from t2t_mm.vocabulary import BLOCK, EOS_ID, ByteVocabulary, SubwordVocabulary

LONGEST = 14
INPUTS = 3


class Words(SubwordVocabulary):
    """Sub-words written down by hand; the longest that fits comes first."""

    def __init__(self, pieces):
        self.name = "hand"
        self.all = ["<pad>", "</s>", "<unk>", "<0x28>", "<0x20>", *pieces]
        self.size = len(self.all)

    def piece(self, one):
        return self.all[one]

    def encode_batch(self, texts):
        return [self._encoded(BLOCK + text.replace(" ", BLOCK)) for text in texts]

    def _encoded(self, text):
        ids = []
        while text:
            fitting = [p for p in self.all[5:] if text.startswith(p)]
            best = max(fitting, key=len)
            ids.append(self.all.index(best))
            text = text[len(best) :]
        return ids

    def _decode(self, ids):
        return "".join(self.all[i] for i in ids).replace(BLOCK, " ").strip()


WHOLE = ["(NP", ")NP", "(S", ")S", "DT", "NN", ".", "(only", ")"]
PIECES = [BLOCK + piece for piece in WHOLE] + [BLOCK, BLOCK + "(", "(", "V", "P", "S"]
WORDS = Words([*PIECES, "X", "NP", "a(b", "\u00a0"])
# Labels of which not every bracket is a sub-word: (VP is three, (NPX two.
MANY = ("NP", "S", "VP", "NPX")


class Chance(Stepper):
    """An untrained model: any id is likely, the same ones for the same history."""

    def __init__(self, num_beams, size, likes):
        self.state = {"code": tf.zeros([INPUTS * num_beams], tf.int32)}
        rng = np.random.default_rng(0)
        self.table = rng.normal(0, 2, (997, size)).astype(np.float32)
        for one, amount in likes.items():
            self.table[:, one] += amount

    def step(self, y, state, position):
        ids = tf.argmax(y, -1, tf.int32)
        row = tf.range(tf.size(ids))
        code = (state["code"] * 31 + ids * 7 + row + position) % 997
        return tf.gather(self.table, code), {"code": code}

    def reordered(self, state, parents):
        return {"code": tf.gather(state["code"], parents)}


def answers(guide, settings, longest=LONGEST, **likes):
    beams = max(settings.beam_size, settings.num_return)
    ids = {"opening": WORDS.all.index(f"{BLOCK}(NP"), "end": EOS_ID}
    stepper = Chance(
        beams, guide.size, {ids[name]: amount for name, amount in likes.items()}
    )
    speaker = Speaker(
        stepper=stepper,
        embed=lambda ids: tf.one_hot(ids, guide.size),
        logits=lambda h: h,
        token=tf.zeros([guide.size]),
        source=Represented(tf.zeros([INPUTS, 1, 1]), tf.ones([INPUTS, 1], tf.bool)),
        guides=[NoPadding(guide.size, 0), guide],
    )
    length = tf.constant(longest)
    if settings.beam_size > 1:
        found = beam_search(speaker, settings, max_length=length)
    else:
        chance = chances(
            settings.num_return, tf.range(INPUTS), length, settings.random_seed
        )
        found = row_by_row(speaker, settings, max_length=length, chance=chance)
    assert (found["penalized"].numpy() > FORBIDDEN / 2).all()
    rows = found["ids"].numpy().reshape(-1, longest).tolist()
    assert all(EOS_ID in row for row in rows)
    return [WORDS.decode(row) for row in rows]


SEARCHES = {
    "greedy": DecodeHParams(),
    "drawn": DecodeHParams(temperature=2.0, num_return=40),
    "beam": DecodeHParams(beam_size=4, num_return=2),
}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("labels", [None, MANY], ids=["sub-words", "in parts"])
@pytest.mark.parametrize("likes", [{}, {"opening": 20}, {"end": 20}], ids=str)
def test_every_answer_is_a_whole_tree(search, labels, likes):
    found = answers(TreeGuide(WORDS, labels), SEARCHES[search], **likes)
    for text in found:
        parse(text)
    if likes.get("opening") and search == "greedy":
        # As deep as there is room to close it: 6 brackets, a leaf, 6 brackets, the end.
        assert {parse(text).depth() for text in found} == {6}


def test_the_shortest_length_is_enough_for_a_tree():
    guide = TreeGuide(WORDS)
    assert guide.shortest == 4  # (NP NN )NP and the end
    for text in answers(guide, SEARCHES["drawn"], longest=4):
        assert re.fullmatch(r"\((NP|S) \S+ \)\1", text)
    with pytest.raises(ValueError, match="max_length is 3; .* at least 4 ids"):
        guide.check(3, tf.zeros([2, 0], tf.int32))


def test_a_prefix_must_begin_a_tree():
    guide = TreeGuide(WORDS)

    def prefix(*texts):
        rows = WORDS.encode_batch(texts)
        return tf.ragged.constant(rows, dtype=tf.int32).to_tensor()

    guide.check(LONGEST, prefix("(S (NP NN )NP", "(NP"))
    for texts in (("(S )S",), ("(NP NN", "DT"), ("(S (NP NN )S",)):
        with pytest.raises(ValueError, match="expected the beginning of one"):
            guide.check(LONGEST, prefix(*texts))
    with pytest.raises(ValueError, match="no whole tree of at most 7 ids"):
        guide.check(7, prefix("(S (S (S (S"))


def test_labels_and_leaves_of_several_sub_words_are_written():
    found = answers(TreeGuide(WORDS, MANY), SEARCHES["drawn"], longest=30)
    text = " ".join(found)
    for token in ("(VP", ")VP", "(NPX", ")NPX", "(NP", ")S"):
        assert token in text.split()
    leaves = {leaf for one in found for leaf in parse(one).leaves()}
    assert {"DT", "NN", "."} < leaves and any(len(leaf) > 2 for leaf in leaves)


def allowed_after(guide, text, longest=LONGEST):
    """The words that may follow a text."""
    ids = WORDS.encode_batch([text])[0] if text else []
    history = np.zeros([longest, 1], np.int32)
    history[: len(ids), 0] = ids
    state = guide.start(Represented(tf.zeros([1, 1, 1]), tf.ones([1, 1], tf.bool)), 1)
    for i in range(len(ids) + 1):
        seen = np.where(np.arange(longest)[:, None] < i, history, 0)
        opinion, state = guide.step(state, tf.constant(seen), tf.constant(i))
    return {WORDS.all[i] for i in np.flatnonzero(opinion.numpy()[0] == 0)}


def words(*texts):
    return {BLOCK + text for text in texts}


def test_what_may_follow_is_what_a_tree_allows():
    guide = TreeGuide(WORDS)
    assert guide.labels == ("NP", "S")
    leaf_parts = {"V", "P", "S", "X", "NP"}
    anything = words("(NP", "(S", "DT", "NN", ".")
    assert allowed_after(guide, "") == words("(NP", "(S")
    assert allowed_after(guide, "(NP") == anything
    assert allowed_after(guide, "(NP DT") == anything | leaf_parts | words(")NP")
    assert allowed_after(guide, "(NP DT (S NN") >= words(")S")
    assert not allowed_after(guide, "(NP DT (S NN") & words(")NP")
    assert allowed_after(guide, "(NP DT (S NN )S") == anything | words(")NP")
    assert allowed_after(guide, "(NP DT )NP") == {"</s>"}


def test_near_the_longest_answer_only_closing_brackets_are_left():
    guide = TreeGuide(WORDS)
    assert allowed_after(guide, "(NP (S DT", longest=7) == words(
        ")S", "DT", "NN", "."
    ) | {"V", "P", "S", "X", "NP"}
    assert allowed_after(guide, "(NP (S DT", longest=6) == words(")S")
    assert allowed_after(guide, "(NP (S DT )S", longest=6) == words(")NP")


def test_vocabularies_without_brackets_are_refused():
    with pytest.raises(ValueError, match="'bytes' has no sub-words; expected learned"):
        TreeGuide(ByteVocabulary("bytes"))
    with pytest.raises(ValueError, match="'hand' has 0 bracket labels and 1 leaves"):
        TreeGuide(Words([BLOCK + "NN", BLOCK + "(NP"]))
    assert is_well_formed("(NP NN )NP")

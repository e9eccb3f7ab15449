import itertools

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.draws import chances
from t2t_mm.guides import ForcedPrefix, NoPadding, NoRepeat, SecondOpinion
from t2t_mm.modalities.base import Represented
from t2t_mm.models.stepping import Stepper
from t2t_mm.search import Speaker, beam_search, row_by_row
from t2t_mm.vocabulary import EOS_ID, PAD_ID

SIZE = 5  # padding, end and three words
INPUTS = 2


class Table(Stepper):
    """A model whose probabilities after each history are drawn at random."""

    def __init__(self, seed, num_beams, spread=2.0, inputs=INPUTS):
        self.num_beams = num_beams
        self.seed, self.spread, self.inputs = seed, spread, inputs
        self.state = {"code": tf.zeros([inputs * num_beams], tf.int32)}
        tables = [
            np.random.default_rng([seed, b]).normal(0, spread, (SIZE**5, SIZE))
            for b in range(inputs)
        ]
        self.table = np.stack(tables).astype(np.float32)

    def step(self, y, state, position):
        ids = tf.argmax(y, -1, tf.int32)
        code = tf.where(position > 0, state["code"] * SIZE + ids, 0)
        row = tf.range(tf.size(code)) // self.num_beams
        return tf.gather_nd(self.table, tf.stack([row, code], 1)), {"code": code}

    def reordered(self, state, parents):
        return {"code": tf.gather(state["code"], parents)}

    def log_probabilities(self, row, history):
        code = 0
        for chosen in history:
            code = code * SIZE + chosen
        logits = self.table[row, code].astype(np.float64)
        return logits - np.log(np.exp(logits).sum())


def speaker_of(table, guides=(), min_length=0):
    return Speaker(
        stepper=table,
        embed=lambda ids: tf.one_hot(ids, SIZE),
        logits=lambda h: h,
        token=tf.zeros([SIZE]),
        source=Represented(
            tf.zeros([table.inputs, 1, 1]), tf.ones([table.inputs, 1], tf.bool)
        ),
        guides=[NoPadding(SIZE, min_length), *guides],
    )


def found_by(table, settings, length, guides=(), row_numbers=None):
    rows = range(table.inputs) if row_numbers is None else row_numbers

    speaker = speaker_of(table, guides, settings.min_length)
    longest = tf.constant(length)
    if table.num_beams == settings.beam_size and not settings.temperature:
        found = beam_search(speaker, settings, max_length=longest)
    else:
        numbers = tf.constant(list(rows), tf.int32)
        found = row_by_row(
            speaker,
            settings,
            max_length=longest,
            chance=chances(settings.num_return, numbers, longest, settings.random_seed),
        )
    return {name: value.numpy() for name, value in found.items()}


def penalty(length, alpha):
    return ((5 + length) / 6) ** alpha


def every_answer(table, row, length, alpha, allowed=lambda ids: True):
    """Gives [(ids, score, penalized)] of all answers, the best ended one first."""
    words = range(2, SIZE)
    ended = [
        (*ids, EOS_ID)
        for count in range(length)
        for ids in itertools.product(words, repeat=count)
    ]
    cut = list(itertools.product(words, repeat=length))

    def scored(ids):
        score = sum(
            table.log_probabilities(row, ids[:i])[chosen]
            for i, chosen in enumerate(ids)
        )
        return ids, score, score / penalty(len(ids), alpha)

    return [
        one
        for kind in (ended, cut)
        for one in sorted(
            (scored(ids) for ids in kind if allowed(ids)), key=lambda one: -one[2]
        )
    ]


def padded(ids, length):
    return list(ids) + [PAD_ID] * (length - len(ids))


def check_same(found, row, expected, length):
    """Compares the answers of a row with those of a slow search."""
    for place, (ids, score, penalized) in enumerate(expected):
        if place == found["ids"].shape[1]:
            break
        assert found["ids"][row, place].tolist() == padded(ids, length)
        np.testing.assert_allclose(found["scores"][row, place], score, rtol=1e-4)
        np.testing.assert_allclose(found["penalized"][row, place], penalized, rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_what_trying_all_answers_finds(alpha):
    length = 3
    count = 1 + 3 + 9 + 27
    settings = DecodeHParams(beam_size=count + 1, alpha=alpha, num_return=count + 1)
    table = Table(3, count + 1)
    found = found_by(table, settings, length)
    for row in range(INPUTS):
        expected = every_answer(table, row, length, alpha)
        assert len(expected) == count
        check_same(found, row, expected, length)
        assert not found["ids"][row, count].any()  # there are no more answers
        assert found["scores"][row, count] == -np.inf
        assert found["penalized"][row, count] == -np.inf


def slow_beam_search(table, row, settings, length):
    """The same rules, one answer at a time, and never stopping early for hope."""
    alive, ended = [((), 0.0)], []
    for _ in range(length):
        candidates = sorted(
            (
                ((*ids, chosen), score + table.log_probabilities(row, ids)[chosen])
                for ids, score in alive
                for chosen in range(1, SIZE)
            ),
            key=lambda one: -one[1],
        )
        best = candidates[: settings.beam_size]
        ended += [one for one in best if one[0][-1] == EOS_ID]
        going = [one for one in candidates if one[0][-1] != EOS_ID]
        alive = going[: settings.beam_size]
        if len(ended) >= settings.beam_size:
            alive = []
            break

    def ranked(answers):
        penalized = [
            (ids, score, score / penalty(len(ids), settings.alpha))
            for ids, score in answers
        ]
        return sorted(penalized, key=lambda one: -one[2])

    return (ranked(ended)[: settings.beam_size] + ranked(alive))[: settings.num_return]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beam_size", [1, 2, 3])
def test_a_beam_finds_what_a_slow_search_by_its_rules_finds(seed, beam_size):
    for alpha in (0.0, 1.0):
        for num_return in {1, beam_size}:
            settings = DecodeHParams(
                beam_size=beam_size, alpha=alpha, num_return=num_return
            )
            table = Table(seed, beam_size)
            found = found_by(table, settings, 5)
            for row in range(INPUTS):
                expected = slow_beam_search(table, row, settings, 5)
                check_same(found, row, expected, 5)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_is_greedy_search(seed):
    table = Table(seed, 1)
    settings = DecodeHParams()
    found = found_by(table, settings, 5)

    unused = tf.zeros([0, 0])
    speaker = speaker_of(table)
    greedy = row_by_row(speaker, settings, max_length=tf.constant(5), chance=unused)
    for name, expected in greedy.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    for row in range(INPUTS):
        ids = []
        while len(ids) < 5 and EOS_ID not in ids:
            ids.append(1 + int(table.log_probabilities(row, ids)[1:].argmax()))
        assert found["ids"][row, 0].tolist() == padded(ids, 5)


def counted_positions(table, settings, length):
    """How many positions a search looks at."""
    steps = []
    step = table.step

    def counted(*arguments):
        steps.append(1)
        return step(*arguments)

    table.step = counted
    beam_search(speaker_of(table), settings, max_length=tf.constant(length))
    return len(steps)


def test_a_search_stops_when_the_best_answer_cannot_be_beaten():
    table = Table(0, 3)
    table.table[:] = [-50, 9, 0, -20, -20]  # it ends at once, nearly surely
    assert counted_positions(table, DecodeHParams(beam_size=3), 5) == 1
    three = DecodeHParams(beam_size=3, num_return=3)
    assert counted_positions(table, three, 5) > 1


@pytest.mark.parametrize("min_length", [1, 2, 3])
def test_no_answer_is_shorter_than_asked_for(min_length):
    count = 41
    table = Table(5, count)
    settings = DecodeHParams(beam_size=count, num_return=count, min_length=min_length)
    found = found_by(table, settings, 3)
    for row in range(INPUTS):
        expected = every_answer(
            table, row, 3, 0.6, lambda ids: len(ids) - (ids[-1] == EOS_ID) >= min_length
        )
        check_same(found, row, expected, 3)
        assert (found["scores"][row, len(expected) :] == -np.inf).all()


@pytest.mark.parametrize("ngram", [1, 2, 3])
def test_no_ngram_comes_twice(ngram):
    def repeats_nothing(ids):
        ids = ids[:-1] if ids[-1] == EOS_ID else ids
        grams = [ids[i : i + ngram] for i in range(len(ids) - ngram + 1)]
        return len(set(grams)) == len(grams)

    count = 125
    table = Table(6, count)
    settings = DecodeHParams(
        beam_size=count, num_return=count, no_repeat_ngram=ngram, alpha=0.0
    )
    found = found_by(table, settings, 4, [NoRepeat(SIZE, ngram)])
    for row in range(INPUTS):
        expected = every_answer(table, row, 4, 0.0, repeats_nothing)
        check_same(found, row, expected, 4)
        assert (found["scores"][row, len(expected) :] == -np.inf).all()


def test_where_every_word_was_said_the_answer_ends():
    table = Table(6, 1)
    table.table[..., EOS_ID] = -30
    found = found_by(table, DecodeHParams(), 5, [NoRepeat(SIZE, 1)])
    for ids in found["ids"][:, 0].tolist():
        assert sorted(ids[:3]) == [2, 3, 4]
        assert ids[3:] == [EOS_ID, PAD_ID]


@pytest.mark.parametrize("width", [0, 1, 2, 3])
def test_answers_begin_with_the_prefix(width):
    prefix = np.array([[3, 2, 4], [4, 0, 0]])[:, :width]
    count = 41
    table = Table(7, count)
    settings = DecodeHParams(beam_size=count, num_return=count)
    guide = ForcedPrefix(SIZE, tf.constant(prefix, tf.int32))
    found = found_by(table, settings, 3, [guide])
    for row in range(INPUTS):
        forced = tuple(prefix[row][prefix[row] != PAD_ID])
        expected = every_answer(
            table, row, 3, 0.6, lambda ids, forced=forced: ids[: len(forced)] == forced
        )
        check_same(found, row, expected, 3)
        assert (found["scores"][row, len(expected) :] == -np.inf).all()


class Likes:
    """Takes `amount` off every id but one, and counts how it is asked."""

    def __init__(self, amount, liked):
        self.amount, self.liked = amount, liked

    def start(self, source, num_beams):
        return {"said": tf.zeros([tf.shape(source.x)[0] * num_beams, 4], tf.int32)}

    def step(self, state, ids, position):
        column = tf.one_hot(position - 1, 4, dtype=tf.int32)[None]
        said = state["said"] + ids[:, None] * column
        # An id is liked unless it was said right before.
        before = tf.gather(said, tf.maximum(position - 1, 0), axis=1)
        liked = tf.where((before == self.liked)[:, None], 0.0, 1.0)
        others = 1 - tf.one_hot(self.liked, SIZE)[None] * liked
        return -self.amount * others, {"said": said}

    def reordered(self, state, parents):
        return {"said": tf.gather(state["said"], parents)}


def test_a_second_opinion_counts_for_the_rank_but_not_for_the_score():
    count = 41
    table = Table(8, count)
    settings = DecodeHParams(beam_size=count, num_return=count, alpha=1.0)
    found = found_by(table, settings, 3, [SecondOpinion(Likes(1.5, 3))])

    def opinion(ids):
        liked = [
            chosen == 3 and (i == 0 or ids[i - 1] != 3) for i, chosen in enumerate(ids)
        ]
        return -1.5 * (len(ids) - sum(liked))

    for row in range(INPUTS):
        answers = [
            (ids, score, (score + opinion(ids)) / penalty(len(ids), 1.0))
            for ids, score, _ in every_answer(table, row, 3, 1.0)
        ]
        for is_cut in (False, True):
            some = [one for one in answers if (one[0][-1] != EOS_ID) == is_cut]
            expected = sorted(some, key=lambda one: -one[2])
            first = 0 if not is_cut else len(answers) - len(some)
            part = {name: value[:, first:] for name, value in found.items()}
            check_same(part, row, expected, 3)

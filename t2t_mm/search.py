"""Searching for answers, one compiled loop each: greedy, drawn by chance, by a beam.

Called by `decoding`. A search asks a `Speaker` (the model at one position) for
log-probabilities and `guides` for what else counts. Shapes: R = B * N rows, N answers
for each of B inputs; T the longest answer. Histories of ids are [T, R], so that a
position is written as one row.

Every answer has a score, the plain sum of its ids' log-probabilities, its end included,
and a rank, by which answers are compared: score plus guides' opinions, divided by
((5 + length) / 6) ** alpha (Wu et al. 2016, section 7, arxiv.org/abs/1609.08144).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.draws import drawn
from t2t_mm.guides import FORBIDDEN, Guide
from t2t_mm.likeliest import likeliest
from t2t_mm.modalities.base import Represented
from t2t_mm.models.stepping import Stepper
from t2t_mm.vocabulary import EOS_ID, PAD_ID

# Below this a hypothesis holds something forbidden.
_DEAD = FORBIDDEN / 2


class Speaker(NamedTuple):
    """A model asked for one id after the other.

    Attributes:
      stepper: its decoder.
      embed: int32 [R] to [R, D].
      logits: [R, D] to float32 [R, V].
      token: [D], what comes before the first id.
      source: encoded inputs.
      guides: what else counts.
    """

    stepper: Stepper
    embed: Callable[[tf.Tensor], tf.Tensor]
    logits: Callable[[tf.Tensor], tf.Tensor]
    token: tf.Tensor
    source: Represented
    guides: Sequence[Guide]

    def start(self, num_beams: int) -> tuple[Any, ...]:
        """Gives the state before the first position."""
        guides = [guide.start(self.source, num_beams) for guide in self.guides]
        return (self.stepper.state, *guides)

    def step(
        self, state: tuple[Any, ...], history: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tuple[Any, ...]]:
        """Gives logits [R, V], what to add to them, and the next state.

        Returns:
          (float32 [R, V]; float32 [R, 1] that makes them log-probabilities; what the
          guides add; the state).
        """
        latest = tf.gather(history, tf.maximum(position - 1, 0))  # [R]
        y = tf.where(position > 0, self.embed(latest), self.token)
        h, stepped = self.stepper.step(y, state[0], position)
        logits = self.logits(h)
        opinions: Any = 0.0
        guided = []
        for guide, one in zip(self.guides, state[1:], strict=True):
            opinion, new = guide.step(one, history, position)
            opinions += opinion
            guided.append(new)
        return logits, -_log_sums(logits), opinions, (stepped, *guided)

    def reordered(self, state: tuple[Any, ...], parents: tf.Tensor) -> tuple[Any, ...]:
        """Gives the state in which row r is what row parents[r] was."""
        guided = [
            guide.reordered(one, parents)
            for guide, one in zip(self.guides, state[1:], strict=True)
        ]
        return (self.stepper.reordered(state[0], parents), *guided)


def _log_sums(logits: tf.Tensor) -> tf.Tensor:
    """Gives log(sum(exp(logits))), [R, 1]: by the best id, whose share is never tiny.

    Softmax and two maxima take half of the time of `tf.nn.log_softmax`.
    """
    shares = tf.reduce_max(tf.nn.softmax(logits), -1, keepdims=True)
    return tf.reduce_max(logits, -1, keepdims=True) - tf.math.log(shares)


def length_penalty(length: tf.Tensor, alpha: float) -> tf.Tensor:
    """Gives ((5 + length) / 6) ** alpha, float32."""
    return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, alpha)


Found = Mapping[str, tf.Tensor]


def row_by_row(
    speaker: Speaker,
    settings: DecodeHParams,
    *,
    max_length: tf.Tensor,
    chance: tf.Tensor,
) -> Found:
    """Answers greedily or by chance, every row for itself.

    Args:
      speaker: with N = settings.num_return rows for each input.
      settings: greedy at temperature 0.
      max_length: T, a scalar.
      chance: what `draws.chances` gives; not read at temperature 0.

    Returns:
      As `beam_search`; drawn answers are sorted by their rank, too.
    """
    beams = settings.num_return
    num_inputs = tf.shape(speaker.source.x)[0]
    num_rows = num_inputs * beams

    def is_unfinished(i, history, sums, done, state):
        del history, sums, state
        return (i < max_length) & ~tf.reduce_all(done)

    def choose_next(i, history, sums, done, state):
        logits, scale, opinions, state = speaker.step(state, history, i)
        ranked = logits + opinions  # [R, V], but for the scale
        if not settings.temperature:
            chosen = likeliest(ranked, 1)[1][:, 0]
        else:
            chosen = drawn(ranked, tf.gather(chance, i), settings)
        gained, rank = (
            tf.gather(values, chosen, axis=1, batch_dims=1) + scale[:, 0]
            for values in (logits, ranked)
        )
        # Where everything was forbidden, something was still chosen.
        gained = tf.stack([gained, tf.where(rank < _DEAD, gained, rank)])  # [2, R]
        sums += tf.where(done, 0.0, gained)
        chosen = tf.where(done, PAD_ID, chosen)
        history = tf.tensor_scatter_nd_update(history, [[i]], chosen[None])
        return i + 1, history, sums, done | (chosen == EOS_ID), state

    _, history, sums, _, _ = tf.while_loop(
        is_unfinished,
        choose_next,
        (
            tf.constant(0),
            tf.fill([max_length, num_rows], PAD_ID),
            tf.zeros([2, num_rows]),
            tf.zeros([num_rows], tf.bool),
            speaker.start(beams),
        ),
    )
    ids = tf.reshape(tf.transpose(history), [num_inputs, beams, max_length])
    lengths = tf.reduce_sum(tf.cast(ids != PAD_ID, tf.int32), -1)
    scores, ranks = tf.unstack(tf.reshape(sums, [2, num_inputs, beams]))
    penalized = ranks / length_penalty(lengths, settings.alpha)
    if beams > 1:
        penalized, order = tf.math.top_k(penalized, beams)
        ids = tf.gather(ids, order, axis=1, batch_dims=1)
        scores = tf.gather(scores, order, axis=1, batch_dims=1)
    return {"ids": ids, "scores": scores, "penalized": penalized}


class _Finished(NamedTuple):
    """The best N ended answers of each input, the best first.

    Attributes:
      history: int32 [T, B * N].
      scores, penalized: float32 [B, N]; penalized is -1e9 where there is none yet.
      count: int32 [B], how many have ended, dropped ones counted.
    """

    history: tf.Tensor
    scores: tf.Tensor
    penalized: tf.Tensor
    count: tf.Tensor


class _Alive(NamedTuple):
    """The N answers of each input that go on, the best first.

    Attributes:
      history: int32 [T, B * N].
      scores, ranks: float32 [B, N], both sums; ranks with the guides' opinions.
    """

    history: tf.Tensor
    scores: tf.Tensor
    ranks: tf.Tensor


class _Beam:
    """The arithmetic of a beam; see `beam_search`."""

    def __init__(self, settings: DecodeHParams, num_inputs, max_length):
        self.settings = settings
        self.beams = settings.beam_size
        self.num_inputs = num_inputs
        self.max_length = max_length

    def first(self) -> tuple[_Alive, _Finished]:
        """Gives one empty answer alive and none finished."""
        shape = [self.num_inputs, self.beams]
        history = tf.fill([self.max_length, self.num_inputs * self.beams], PAD_ID)
        one = tf.one_hot(0, self.beams, 0.0, FORBIDDEN)[None]
        ranks = tf.broadcast_to(one, shape)
        alive = _Alive(history, tf.zeros(shape), ranks)
        nobody = tf.fill(shape, FORBIDDEN)
        count = tf.zeros([self.num_inputs], tf.int32)
        return alive, _Finished(history, tf.zeros(shape), nobody, count)

    def rows(self, beam: tf.Tensor, width: int) -> tf.Tensor:
        """Gives flat row numbers of beams [B, *], each among `width` of its input."""
        first = tf.range(self.num_inputs)[:, None] * width
        return tf.reshape(first + beam, [-1])

    def is_done(self, alive: _Alive, finished: _Finished) -> tf.Tensor:
        """Tells, bool [B], where nothing that may come can change the answers."""
        limit = length_penalty(self.max_length, self.settings.alpha)
        hope = (
            alive.ranks[:, 0] / limit
        )  # no id can raise a sum; the penalty is largest
        last = finished.penalized[:, self.settings.num_return - 1]
        enough = finished.count >= self.beams
        # Where no beam lives, hope is at the bottom, and that is the end as well.
        return enough | (last >= hope) | (alive.ranks[:, 0] < _DEAD)

    def expanded(self, alive, logits, scale, ranked, position):
        """Gives the best 2N next answers of each input.

        Args:
          alive: before the position.
          logits: [R, V]; log-probabilities when scale, [R, 1], is added.
          ranked: logits with the guides' opinions, without the scale.
          position: int32 scalar.

        Returns:
          (history [T, B * 2N], scores [B, 2N], ranks [B, 2N], is_end bool [B, 2N], beam
          int32 [B, 2N]).
        """
        beams, size = self.beams, logits.shape[-1]
        shape = [self.num_inputs, beams * size]
        sums = tf.reshape(alive.ranks, [-1, 1]) + scale + ranked  # [R, V]
        ranks, index = likeliest(tf.reshape(sums, shape), 2 * beams)
        beam, ids = index // size, index % size  # [B, 2N]
        gained = tf.gather(tf.reshape(logits, shape), index, axis=1, batch_dims=1)
        gained += tf.gather(tf.reshape(scale, [-1, beams]), beam, axis=1, batch_dims=1)
        scores = tf.gather(alive.scores, beam, axis=1, batch_dims=1) + gained
        history = tf.gather(alive.history, self.rows(beam, beams), axis=1)
        history = tf.tensor_scatter_nd_update(
            history, [[position]], tf.reshape(ids, [1, -1])
        )
        return history, scores, tf.maximum(ranks, FORBIDDEN), ids == EOS_ID, beam

    def with_ended(self, finished, candidates, position, done) -> _Finished:
        """Adds what has ended now, and keeps the best."""
        beams = self.beams
        history, scores, ranks, is_end, _ = candidates
        first = tf.range(2 * beams) < beams  # an end must be among the best N
        ended = is_end & first & (ranks > _DEAD) & ~done[:, None]
        penalty = length_penalty(position + 1, self.settings.alpha)
        penalized = tf.where(ended, ranks / penalty, FORBIDDEN)
        every = tf.concat([finished.penalized, penalized], 1)  # [B, 3N]
        best, index = tf.math.top_k(every, beams)
        every_score = tf.concat([finished.scores, scores], 1)
        width = 3 * beams
        shape = [self.max_length, self.num_inputs, -1]
        every_history = tf.concat(
            [tf.reshape(finished.history, shape), tf.reshape(history, shape)], 2
        )
        every_history = tf.reshape(every_history, [self.max_length, -1])
        return _Finished(
            tf.gather(every_history, self.rows(index, width), axis=1),
            tf.gather(every_score, index, axis=1, batch_dims=1),
            best,
            finished.count + tf.reduce_sum(tf.cast(ended, tf.int32), 1),
        )

    def going_on(self, candidates) -> tuple[_Alive, tf.Tensor]:
        """Gives the best N that have not ended, and of which row each is a child."""
        beams = self.beams
        history, scores, ranks, is_end, beam = candidates
        # Of 2N at most N end, one for each beam: N are left.
        order = tf.range(2 * beams) + tf.where(is_end, 2 * beams, 0)  # [B, 2N]
        _, index = tf.math.top_k(-order, beams)
        alive = _Alive(
            tf.gather(history, self.rows(index, 2 * beams), axis=1),
            tf.gather(scores, index, axis=1, batch_dims=1),
            tf.gather(ranks, index, axis=1, batch_dims=1),
        )
        return alive, self.rows(tf.gather(beam, index, axis=1, batch_dims=1), beams)

    def answers(self, alive: _Alive, finished: _Finished) -> Found:
        """Gives the best answers; cut ones where too few have ended."""
        beams, wanted = self.beams, self.settings.num_return
        penalty = length_penalty(self.max_length, self.settings.alpha)
        cut = tf.where(alive.ranks > _DEAD, alive.ranks / penalty, FORBIDDEN)
        penalized = tf.concat([finished.penalized, cut], 1)  # [B, 2N]
        ended = tf.minimum(finished.count, beams)[:, None]
        place = tf.range(wanted)[None]  # [1, wanted]
        index = tf.where(place < ended, place, beams + place - ended)
        scores = tf.concat([finished.scores, alive.scores], 1)
        ids = tf.concat(
            [
                tf.reshape(part.history, [self.max_length, self.num_inputs, beams])
                for part in (finished, alive)
            ],
            2,
        )
        ids = tf.gather(tf.transpose(ids, [1, 2, 0]), index, axis=1, batch_dims=1)
        penalized = tf.gather(penalized, index, axis=1, batch_dims=1)
        scores = tf.gather(scores, index, axis=1, batch_dims=1)
        is_none = penalized < _DEAD
        lowest = tf.constant(-float("inf"))
        return {
            "ids": tf.where(is_none[..., None], PAD_ID, ids),
            "scores": tf.where(is_none, lowest, scores),
            "penalized": tf.where(is_none, lowest, penalized),
        }


def beam_search(
    speaker: Speaker, settings: DecodeHParams, *, max_length: tf.Tensor
) -> Found:
    """Keeps the N likeliest beginnings of each input at every position.

    An answer counts as ended if its end is among the N best ways to go on; an input is
    done when N have ended, or when the best that go on cannot become better than the
    last one wanted. So a beam of one is greedy search. Where T is reached first, the
    best that go on stand, cut, behind those that have ended.

    Args:
      speaker: with N = settings.beam_size rows for each input.
      settings: beam_size, alpha, num_return.
      max_length: T, a scalar.

    Returns:
      "ids" int32 [B, num_return, T], padding behind each end; "scores" and "penalized"
      (the rank) float32 [B, num_return]. An input for which there are fewer answers has
      padding and -inf.
    """
    num_inputs = tf.shape(speaker.source.x)[0]
    beam = _Beam(settings, num_inputs, max_length)

    def is_unfinished(i, alive, finished, done, state):
        del alive, finished, state
        return (i < max_length) & ~tf.reduce_all(done)

    def grow(i, alive, finished, done, state):
        logits, scale, opinions, state = speaker.step(state, alive.history, i)
        candidates = beam.expanded(alive, logits, scale, logits + opinions, i)
        finished = beam.with_ended(finished, candidates, i, done)
        alive, parents = beam.going_on(candidates)
        done |= beam.is_done(alive, finished)
        return i + 1, alive, finished, done, speaker.reordered(state, parents)

    alive, finished = beam.first()
    _, alive, finished, _, _ = tf.while_loop(
        is_unfinished,
        grow,
        (
            tf.constant(0),
            alive,
            finished,
            tf.zeros([num_inputs], tf.bool),
            speaker.start(settings.beam_size),
        ),
    )
    return beam.answers(alive, finished)

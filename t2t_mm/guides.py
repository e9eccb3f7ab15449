"""What else than the model has a say in an answer: constraints and second opinions.

A `Guide` gives, at each position, a number that is added to the log-probability of each
id before one is chosen: -1e9 forbids it (`FORBIDDEN`), anything else (0 or less) is a
second opinion. The searches of `search` carry its state through their loop. Shapes:
R = B * N rows, N answers for each of B inputs; T the longest answer.
"""

from abc import ABC, abstractmethod
from typing import Any

import tensorflow as tf

from t2t_mm.modalities.base import Represented
from t2t_mm.vocabulary import EOS_ID, PAD_ID

FORBIDDEN = -1e9


class Guide(ABC):
    """Says which ids to prefer, row by row."""

    def check(self, max_length: int, prefix: tf.Tensor) -> None:
        """Refuses a length or prefixes int32 [B, P] with which it cannot do its work.

        Raises:
          ValueError: says what there would have to be.
        """
        del max_length, prefix

    def start(self, source: Represented, num_beams: int) -> Any:
        """Gives the state before the first position: a nest of tensors, or ()."""
        del source, num_beams
        return ()

    @abstractmethod
    def step(
        self, state: Any, history: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Gives what is added to the scores of a position's ids.

        Args:
          state: after the position before.
          history: int32 [T, R], the ids chosen so far, padding behind them.
          position: int32 scalar.

        Returns:
          (float32, broadcastable to [R, V], the next state).
        """

    def reordered(self, state: Any, parents: tf.Tensor) -> Any:
        """Gives the state in which row r is what row parents[r] was, int32 [R]."""
        return tf.nest.map_structure(lambda leaf: tf.gather(leaf, parents), state)


class NoPadding(Guide):
    """Padding is never chosen, and no end before `min_length` ids.

    Args:
      size: V.
      min_length: fewest ids before the end.
    """

    def __init__(self, size: int, min_length: int):
        self.size = size
        self.min_length = min_length

    def step(self, state, history, position):
        """Forbids padding and, at first, the end."""
        padding = tf.one_hot(PAD_ID, self.size) * 2 * FORBIDDEN  # [V]
        if self.min_length:
            is_early = tf.cast(position < self.min_length, tf.float32)
            padding += tf.one_hot(EOS_ID, self.size) * (is_early * FORBIDDEN)
        return padding[None], state


class NoRepeat(Guide):
    """No n ids in a row come twice; the end is always allowed.

    Args:
      size: V.
      length: n.
    """

    def __init__(self, size: int, length: int):
        self.size = size
        self.length = length

    def step(self, state, history, position):
        """Forbids the ids that followed earlier the last n - 1 ids."""
        before = self.length - 1
        max_length, num_rows = tf.shape(history)[0], tf.shape(history)[1]
        padded = tf.pad(history, [[before, before], [0, 0]])
        times = tf.range(max_length)
        seen = times + before < position  # [T]: n-grams that begin here and are whole
        same = tf.broadcast_to(seen[:, None], [max_length, num_rows])
        for offset in range(before):
            latest = tf.gather(padded, position + offset)  # [R]
            earlier = padded[before + offset : before + offset + max_length]
            same &= earlier == latest
        following = padded[2 * before :]  # [T, R]
        rows = tf.broadcast_to(tf.range(num_rows), [max_length, num_rows])
        marked = tf.scatter_nd(
            tf.stack([rows, following], -1),
            tf.cast(same, tf.float32),
            [num_rows, self.size],
        )
        # Twice: where nothing else is left, an early end is the lesser evil.
        forbidden = tf.where(marked > 0, 2 * FORBIDDEN, 0.0)
        return forbidden * (1 - tf.one_hot(EOS_ID, self.size)), state


class ForcedPrefix(Guide):
    """Answers begin with given ids.

    Args:
      size: V.
      prefix: int32 [B, P], padding behind each; P may be 0.
    """

    def __init__(self, size: int, prefix: tf.Tensor):
        self.size = size
        self.prefix = prefix

    def start(self, source, num_beams):
        """Keeps the prefix of each row."""
        rows = tf.repeat(self.prefix, num_beams, 0)  # [R, P]
        return tf.pad(rows, [[0, 0], [0, 1]])  # [R, P + 1]

    def step(self, state, history, position):
        """Forbids everything but the prefix's id, where it has one."""
        column = tf.gather(
            state, tf.minimum(position, tf.shape(state)[1] - 1), axis=1
        )  # [R]
        others = FORBIDDEN * (1 - tf.one_hot(column, self.size))
        return tf.where((column == PAD_ID)[:, None], 0.0, others), state

    def reordered(self, state, parents):
        """Leaves it: all rows of an input have one prefix."""
        return state


class SecondOpinion(Guide):
    """Adds the scores of another scorer, such as one that listens to the sound.

    Args:
      scorer: an object with `start(source, num_beams) -> state`, a nest of tensors with
        rows [R, ...]; `step(state, ids [R], position) -> (scores float32 [R, V], at
        most 0, state)`, ids those chosen at the position before (0 at first); and
        `reordered(state, parents [R]) -> state`.
    """

    def __init__(self, scorer: Any):
        self.scorer = scorer

    def start(self, source, num_beams):
        """Starts the scorer."""
        return self.scorer.start(source, num_beams)

    def step(self, state, history, position):
        """Asks the scorer."""
        latest = tf.gather(history, tf.maximum(position - 1, 0))  # [R], 0 at first
        return self.scorer.step(state, latest, position)

    def reordered(self, state, parents):
        """Lets the scorer's rows change places."""
        return self.scorer.reordered(state, parents)

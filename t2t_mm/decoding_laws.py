"""Laws of decoding that every model keeps: checks to call from tests, yours too.

`testing.run_model_test` calls them; they can be called on a trained model as well.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.decoding import sequences, target_log_probabilities
from t2t_mm.laws import expect_close
from t2t_mm.made_up_batches import made_up_batch, with_garbage_appended
from t2t_mm.models.base import Model
from t2t_mm.problem import AUDIO, Problem
from t2t_mm.vocabulary import PAD_ID

TOLERANCE = 1e-5
_SEARCHES = (
    DecodeHParams(min_length=2),
    DecodeHParams(beam_size=3, num_return=3, min_length=2),
)


def check_steps(
    model: Model,
    problem: Problem,
    vocabularies: Mapping[str, int],
    *,
    length: int = 9,
    seed: int = 0,
) -> None:
    """Checks that one position at a time gives what `Model.decode` gives of all.

    For one row and for three rows of each input, which change places at random.

    Args:
      model: has the problem; its targets are sequences.
      problem, vocabularies: as `made_up_batches.made_up_batch`.
      length: positions; more than a memory reaches back shows whether it wraps well.
      seed: of inputs and targets.

    Raises:
      ConformanceError: if they differ by more than 1e-5.
    """
    batch = made_up_batch(problem, vocabularies, num_examples=2, seed=seed)
    source, _ = model.encode_inputs(problem, batch, training=False)
    # A length that is no tensor fixes all shapes, for XLA.
    for beams, longest in itertools.product((1, 3), (length, tf.constant(length))):
        rng = np.random.default_rng(seed)
        stepper = model.start_decoding(source, max_length=longest, num_beams=beams)
        state = stepper.state
        # What each row saw and gave, [L, R, D]; it changes places with its row.
        shape = [length, 2 * beams, model.hparams.hidden_size]
        seen, given = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for i in range(length):
            seen[i] = rng.normal(size=shape[1:])
            y = tf.cast(seen[i], model.compute_dtype)
            h, state = stepper.step(y, state, tf.constant(i))
            given[i] = tf.cast(h, tf.float32)
            if i < length - 1:
                parents = rng.integers(0, beams, [2, beams]) + [[0], [beams]]
                parents = parents.reshape(-1)
                state = stepper.reordered(state, tf.constant(parents, tf.int32))
                seen, given = seen[:, parents], given[:, parents]
        expected, _ = model.decode(
            tf.cast(seen.swapaxes(0, 1), model.compute_dtype),
            tf.ones([2 * beams, length], tf.bool),
            source=tf.repeat(source.x, beams, 0),
            source_mask=tf.repeat(source.mask, beams, 0),
            training=False,
        )
        expected = np.asarray(tf.cast(expected, tf.float32)).swapaxes(0, 1)
        for i in range(length):
            what = f"{problem.name}: position {i} of {beams} beams against all at once"
            expect_close(given[i], expected[i], what, TOLERANCE)


def check_scores(
    model: Model, problem: Problem, vocabularies: Mapping[str, int], *, length: int = 5
) -> None:
    """Checks that answers have the score that `Model.decode` gives them.

    Greedy and beam search, and the same inputs alone and with garbage behind their
    masks: same ids, same scores.

    Args, Raises: as `check_steps`.
    """
    batch = made_up_batch(problem, vocabularies, num_examples=3)
    amount = 173 if problem.inputs.modality == AUDIO else 2
    padded = with_garbage_appended(
        problem, batch, vocabularies, amounts={"inputs": amount, "targets": 0}
    )
    longest = tf.constant(length)
    for settings in _SEARCHES:

        def found_in(batch, settings=settings):
            return sequences(model, problem.name, batch, settings, max_length=longest)

        name = f"{problem.name}, beam {settings.beam_size}"
        found = found_in(batch)
        _check_same(found_in(padded), found, f"{name}: with more padding")
        for row in range(3):
            alone = {key: value[row : row + 1] for key, value in batch.items()}
            expected = {key: value[row : row + 1] for key, value in found.items()}
            _check_same(found_in(alone), expected, f"{name}: row {row} alone")
        for place in range(settings.num_return):
            ids = found["ids"][:, place]
            answered = {**batch, "targets": ids, "targets_mask": ids != PAD_ID}
            scores = target_log_probabilities(model, problem.name, answered)
            there = tf.math.is_finite(found["scores"][:, place])
            expect_close(
                tf.boolean_mask(found["scores"][:, place], there),
                tf.boolean_mask(tf.reduce_sum(scores, 1), there),
                f"{name}: score of answer {place} against teacher forcing",
                10 * TOLERANCE,  # a sum of several log-probabilities
            )


def _check_same(found: Mapping[str, Any], expected: Mapping[str, Any], what: str):
    expect_close(found["ids"], expected["ids"], f"{what}, ids", 0)
    there = np.isfinite(expected["scores"])
    for name in ("scores", "penalized"):
        expect_close(
            np.asarray(found[name])[there],
            np.asarray(expected[name])[there],
            f"{what}, {name}",
            10 * TOLERANCE,
        )

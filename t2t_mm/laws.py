"""Laws that layers, models and problems keep: checks to call from tests.

The harnesses of `testing` call them all; they can be called one by one, on a trained
model, too.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from t2t_mm import records
from t2t_mm.decoding import make_decoder
from t2t_mm.input_pipeline import batch_signature, parse_batch
from t2t_mm.layers.segments import segments_of
from t2t_mm.made_up_batches import made_up_batch, with_garbage_appended
from t2t_mm.models.base import Model
from t2t_mm.packing import packed_batch
from t2t_mm.problem import CLASS_LABEL, TEXT, Problem
from t2t_mm.raw_examples import raw_values
from t2t_mm.training_state import flat_map
from t2t_mm.vocabulary import ByteVocabulary

TOLERANCE = 2e-4

LossesOf = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ConformanceError(AssertionError):
    """A thing does not keep what everything of its kind promises."""


def expect(claim: Any, message: str) -> None:
    """Raises `ConformanceError` with a message unless a claim holds."""
    if not claim:
        raise ConformanceError(message)


def expect_close(
    got: Any, expected: Any, what: str, tolerance: float = TOLERANCE
) -> None:
    """Expects equal structures of nearly equal numbers: |a - b| <= t (1 + |b|)."""
    pairs = zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True)
    for one, other in pairs:
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        expect(one.shape == other.shape, f"{what}: shapes {one.shape}, {other.shape}.")
        error = np.max(np.abs(one - other) / (1 + np.abs(other)), initial=0.0)
        expect(error <= tolerance, f"{what}: differs by {error:.2g}.")


def is_finite(tensor: Any) -> bool:
    """Tells whether no number of a tensor is infinite or nan."""
    return bool(np.all(np.isfinite(np.asarray(tensor, np.float64))))


def check_paths(layer: keras.Layer) -> None:
    """Checks that no two weights have one path: a checkpoint would lose one."""
    paths = [weight.path for weight in layer.weights]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    expect(not twice, f"weights share a path: {', '.join(twice)}.")


def shake(layer: keras.Layer, seed: int = 0) -> None:
    """Moves every variable a little, so that none is at a special point such as 0."""
    rng = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        noise = rng.normal(0, 0.1, variable.shape)
        variable.assign(variable + noise.astype(np.float32))


def check_saved_and_restored(saved: keras.Layer, restored: keras.Layer) -> None:
    """Writes the variables of one layer, reads them into another of its kind."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ckpt")
        written = flat_map("model", saved.variables)
        read = flat_map("model", restored.variables)
        # Names are made from the layers' own, which differ where Keras numbers them.
        keys = [f"v{i}" for i in range(len(written))]
        expect(len(read) == len(written), "the same layer twice differs in variables.")
        if not keys:
            return
        values = zip(keys, written.values(), strict=True)
        path = tf.train.Checkpoint(**dict(values)).write(path)
        values = zip(keys, read.values(), strict=True)
        tf.train.Checkpoint(**dict(values)).read(path).assert_consumed()


def step_down(
    layer: keras.Layer, tape: tf.GradientTape, loss: tf.Tensor, rate: float = 1e-3
) -> frozenset[str]:
    """Goes a step down; gives the paths of variables without a gradient.

    Raises:
      ConformanceError: if a gradient is not finite.
    """
    variables = layer.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    unused = set()
    for variable, gradient in zip(variables, gradients, strict=True):
        if gradient is None:
            unused.add(variable.path)
            continue
        gradient = tf.convert_to_tensor(gradient)
        expect(is_finite(gradient), f"gradient of {variable.path} is not finite.")
        variable.assign(variable - rate * gradient)
    return frozenset(unused)


def compiled_losses(model: Model, problem: Problem) -> LossesOf:
    """Gives the losses of a batch, not in training, compiled with free dimensions."""

    @tf.function(input_signature=[batch_signature(problem)], autograph=False)
    def losses_of(batch):
        return model.losses_of(problem.name, batch, training=False)

    return losses_of


def check_padding_changes_nothing(
    losses_of: LossesOf,
    problem: Problem,
    vocabularies: Mapping[str, int],
    amounts: Sequence[int] = (1, 2),
) -> None:
    """Checks that losses stay the same when garbage is appended behind the masks.

    Args:
      losses_of: gives the losses of a batch of the problem, as a model does when it is
        not trained; compiled or not.
      problem, vocabularies: as `made_up_batch`.
      amounts: positions to append; odd and even ones reach every stride of 2.

    Raises:
      ConformanceError: if padding is felt.
    """
    batch = made_up_batch(problem, vocabularies)
    before = losses_of(batch)
    for amount in amounts:
        inputs = amount if problem.inputs.modality == TEXT else 173 * amount
        longer = with_garbage_appended(
            problem, batch, vocabularies, amounts={"inputs": inputs, "targets": amount}
        )
        after = losses_of(longer)
        what = f"{problem.name}: with {amount} more padded against before"
        expect_close(after, before, what)


def check_rows_are_independent(
    losses_of: LossesOf, problem: Problem, vocabularies: Mapping[str, int]
) -> None:
    """Checks that the loss of a batch is the sum of its rows' losses alone.

    Args, Raises: as `check_padding_changes_nothing`.
    """
    batch = made_up_batch(problem, vocabularies, num_examples=3)
    together = losses_of(batch)["loss_sum"]
    alone = 0.0
    for i in range(3):
        row = {name: value[i : i + 1] for name, value in batch.items()}
        alone += losses_of(row)["loss_sum"]
    expect_close(alone, together, f"{problem.name}: rows alone against together")


def check_packing_changes_nothing(
    model: Model,
    problem: Problem,
    vocabularies: Mapping[str, int],
    *,
    num_examples: int = 7,
    tolerance: float = 1e-5,
) -> None:
    """Checks that examples that share a row feel nothing of each other.

    Each example's log-probability, all losses and every gradient are those of the batch
    in which each example has a row of its own.

    Args:
      model: has the problem. Nothing is checked of one that does not take packed rows.
      problem: nothing is checked unless it is from text to text.
      vocabularies: as `made_up_batch`.
      num_examples: they go into three rows of unlike numbers of examples.
      tolerance: |a - b| <= t (1 + |b|).

    Raises:
      ConformanceError: if an answer differs.
    """
    kinds = (problem.inputs.modality, problem.targets.modality)
    if not model.takes_packed_rows or kinds != (TEXT, TEXT):
        return
    lengths = {"inputs": 31, "targets": 23}
    single = made_up_batch(
        problem, vocabularies, num_examples=num_examples, lengths=lengths
    )
    rows = np.sort(np.arange(num_examples) ** 2 % 3).astype(np.int32)
    packed = packed_batch(single, rows)
    answers = []
    for batch in (single, packed):
        with tf.GradientTape() as tape:
            losses = model.losses_of(problem.name, batch, training=False)
            loss = losses["loss_sum"] / losses["weight"] + losses["auxiliary_loss"]
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        # Without training some have none, such as that of the gates' noise.
        gradients = [[] if g is None else tf.convert_to_tensor(g) for g in gradients]
        scores = _target_log_probabilities(model, problem, batch)
        answers.append((losses, scores, gradients))
    for got, expected, what in zip(
        answers[1],
        answers[0],
        ("losses", "log-probabilities", "gradients"),
        strict=True,
    ):
        what = f"{problem.name}: {what} packed against each in its row"
        expect_close(got, expected, what, tolerance)


def _target_log_probabilities(
    model: Model, problem: Problem, batch: Mapping[str, Any]
) -> tf.Tensor:
    """Gives the log-probability of each real target position, in order: [N]."""
    source, _ = model.encode_inputs(problem, batch, training=False)
    numbers = batch.get("targets_segments")
    ids, mask = batch["targets"], batch["targets_mask"]
    h, _ = model.decode_targets(
        problem,
        ids,
        mask,
        source=source,
        training=False,
        segments=None if numbers is None else segments_of(numbers),
    )
    logits = model.modalities[TEXT].top(h, feature=problem.targets)
    scores = tf.nn.log_softmax(logits)
    return tf.boolean_mask(tf.gather(scores, ids, batch_dims=2), mask)


def check_no_position_sees_a_later_target(
    model: Model, problem: Problem, vocabularies: Mapping[str, int]
) -> None:
    """Checks that changing the target at i changes no output up to and at i.

    Args:
      model: has the problem.
      problem, vocabularies: as `made_up_batch`.

    Raises:
      ConformanceError: if a later target is felt, or an earlier one is not.
    """
    batch = made_up_batch(problem, vocabularies)
    source, _ = model.encode_inputs(problem, batch, training=False)
    ids = batch["targets"]
    mask = np.ones_like(ids, bool)
    before, _ = model.decode_targets(problem, ids, mask, source=source, training=False)
    last = ids.shape[1] - 2
    for i in sorted({0, last // 2, last}):
        changed = np.array(ids)
        changed[:, i:] = 2 + changed[:, i:] % 2
        after, _ = model.decode_targets(
            problem, changed, mask, source=source, training=False
        )
        what = f"{problem.name}: outputs before position {i} when it changes"
        expect_close(after[:, : i + 1], before[:, : i + 1], what)
        later = np.max(np.abs(np.asarray(after - before)[:, i + 1 :]))
        expect(later > 0, f"{problem.name}: nothing after {i} feels its target.")


def check_decoding(
    model: Model,
    problem: Problem,
    batch: Mapping[str, Any],
    vocabularies: Mapping[str, int],
    max_length: int = 3,
) -> None:
    """Checks that decoding gives ids of the target vocabulary, probable first.

    Args:
      model: has the problem.
      problem, batch, vocabularies: as in `run_model_test`.
      max_length: most ids of a decoded text.

    Raises:
      ConformanceError: if not.
    """
    decode = make_decoder(model, problem.name, batch_signature(problem))
    found = decode(batch, model.commands.token(problem.command), max_length)
    ids = found["ids"].numpy()
    size = vocabularies[str(problem.targets.vocabulary)]
    expect(len(ids) == len(batch["inputs"]), f"{problem.name}: {len(ids)} answers.")
    expect(
        ids.min() >= 0 and ids.max() < size,
        f"{problem.name}: decoded ids {ids.min()} to {ids.max()} of {size}.",
    )
    if problem.targets.modality == CLASS_LABEL:
        probabilities = found["probabilities"].numpy()
        expect(
            np.all(np.diff(probabilities) <= 0) and np.all(probabilities <= 1),
            f"{problem.name}: probabilities {probabilities} are not sorted.",
        )


def check_records(problem: Problem, split: str, examples: Sequence[Any]) -> None:
    """Checks that raw examples become records, and those the batch that models expect.

    Args:
      problem, split: where the examples come from.
      examples: as `Problem.generate` yields them.

    Raises:
      ConformanceError: if eager parsing differs from tf.data, or text from its source.
      TypeError, ValueError: if an example does not fit its feature.
    """
    vocabularies = {
        str(feature.vocabulary): ByteVocabulary(str(feature.vocabulary))
        for feature in problem.features.values()
        if feature.modality == TEXT
    }
    raw = [
        records.unpack(records.pack(raw_values(problem, split, i, example)))
        for i, example in enumerate(examples)
    ]
    encoded = records.encoded_values(problem, raw, vocabularies)
    packed = tf.constant([records.pack(values) for values in encoded])
    eager = parse_batch(problem, packed)
    dataset = tf.data.Dataset.from_tensors(packed).map(
        lambda r: parse_batch(problem, r)
    )
    expect_close(next(iter(dataset)), eager, f"{problem.name}: tf.data against eager")
    for name, spec in batch_signature(problem).items():
        fits = spec.is_compatible_with(eager[name])
        expect(fits, f"{problem.name}: {name} is {eager[name].shape}, not {spec}.")
    for name, feature in problem.features.items():
        if feature.modality == TEXT:
            words = vocabularies[str(feature.vocabulary)]
            texts = [words.decode(row) for row in eager[name].numpy().tolist()]
            expected = [example[name] for example in examples]
            expect(
                texts == expected, f"{problem.name}: {name} {texts}, not {expected}."
            )

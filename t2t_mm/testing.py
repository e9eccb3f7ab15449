"""Conformance tests for what users add: a harness per kind of thing.

Call them from tests of your own layer, modality, model, problem or set; each raises
`laws.ConformanceError` unless all is well. Sizes should be tiny, different primes, so
that a swapped axis cannot pass.
"""

import contextlib
import dataclasses
import inspect
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import t2t_mm.metrics  # noqa: F401  (fills the registry)
from t2t_mm import configuration, registry
from t2t_mm.configuration import HParams
from t2t_mm.decoding_laws import check_scores, check_steps
from t2t_mm.laws import (
    check_decoding,
    check_no_position_sees_a_later_target,
    check_packing_changes_nothing,
    check_padding_changes_nothing,
    check_paths,
    check_records,
    check_rows_are_independent,
    check_saved_and_restored,
    compiled_losses,
    expect,
    expect_close,
    is_finite,
    shake,
    step_down,
)
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.modalities.base import Modality
from t2t_mm.models import build_model
from t2t_mm.problem import CLASS_LABEL, Feature, Problem, get_problem

LOW_PRECISION = "mixed_bfloat16"


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Makes layers under a Keras dtype policy, then goes back to the one before."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def run_layer_test(
    make_layer: Callable[[], keras.Layer],
    *inputs: Any,
    build_shape: Sequence[int | None] | None = None,
    **options: Any,
) -> frozenset[str]:
    """Checks what every layer promises.

    Unique weight paths; eager = compiled with free dimensions; runs in mixed precision
    and answers in its dtype; variables saved and restored give the same answer; the
    gradients are finite, and a step along them changes the answer.

    Args:
      make_layer: makes a new layer each time.
      *inputs: numpy arrays, positional arguments of the call.
      build_shape: what `build` gets; by default the shape of the first input.
      **options: numpy arrays, keyword arguments of the call.

    Returns:
      Names of the trainable variables without a gradient, for the caller to judge.

    Raises:
      ConformanceError: says what is not kept.
    """
    shape = build_shape or inputs[0].shape
    layer = _built(make_layer, shape)
    check_paths(layer)
    shake(layer)
    answer = _called(layer, inputs, options, training=False)
    _check_compiled(layer, inputs, options, answer)
    restored = _built(make_layer, shape)
    check_saved_and_restored(layer, restored)
    again = _called(restored, inputs, options, training=False)
    expect_close(again, answer, "restored layer against saved")
    with dtype_policy(LOW_PRECISION):
        low = _built(make_layer, shape)
    answers = tf.nest.flatten(_called(low, inputs, options, training=False))
    dtype = next(a.dtype for a in answers if a.dtype.is_floating)
    expect(dtype == low.compute_dtype, f"answers {dtype}, not {low.compute_dtype}.")
    expect(all(map(is_finite, answers)), f"{LOW_PRECISION}: answer is not finite.")
    return _check_layer_step(layer, inputs, options)


def _built(make_layer: Callable[[], keras.Layer], shape: Any) -> keras.Layer:
    layer = make_layer()
    if not layer.built:
        layer.build(shape)
    return layer


def _called(layer: keras.Layer, inputs: Any, options: Any, *, training: bool) -> Any:
    if "training" in inspect.signature(layer.call).parameters:
        options = {**options, "training": training}
    return layer(*inputs, **options)


def _spec(array: Any) -> tf.TensorSpec:
    tensor = tf.convert_to_tensor(array)
    free = [None] * tensor.shape.rank
    if tensor.dtype.is_floating and free:
        free[-1] = tensor.shape[-1]
    return tf.TensorSpec(free, tensor.dtype)


def _check_compiled(layer, inputs, options, answer) -> None:
    signature = tf.nest.map_structure(_spec, [list(inputs), dict(options)])

    @tf.function(input_signature=signature, autograph=False)
    def compiled(inputs, options):
        return _called(layer, inputs, options, training=False)

    got = compiled(list(inputs), dict(options))
    expect_close(got, answer, "compiled against eager")


def _check_layer_step(layer, inputs, options) -> frozenset[str]:
    rng = np.random.default_rng(0)

    def loss_of(answer):
        # Random weights: plain sums of normalised values have no gradient.
        parts = [a for a in tf.nest.flatten(answer) if a.dtype.is_floating]
        weights = [rng.normal(size=part.shape).astype(np.float32) for part in parts]
        return tf.add_n(
            [tf.reduce_sum(p * w) for p, w in zip(parts, weights, strict=True)]
        )

    with tf.GradientTape() as tape:
        answer = _called(layer, inputs, options, training=True)
        loss = loss_of(answer)
    unused = step_down(layer, tape, loss)
    if len(unused) < len(layer.trainable_variables):
        after = _called(layer, inputs, options, training=True)
        expect(is_finite(loss_of(after)), "loss after a step is not finite.")
    return unused


# Modalities


class _Role(keras.layers.Layer):
    """A modality as a layer, in one of its roles."""

    def __init__(self, modality: Modality, feature: Feature, role: str):
        super().__init__(name="role")
        self.modality, self.feature, self.role = modality, feature, role

    def build(self, input_shape=None):
        self.modality.build()

    def call(self, x, mask, *, training):
        modality, feature = self.modality, self.feature
        if self.role == "inputs":
            found = modality.bottom(x, mask, feature=feature, training=training)
            return found.x, found.mask
        if feature.modality == CLASS_LABEL:
            pooled = modality.pool(x, mask, None, training=training)
            return pooled, modality.top(pooled, feature=feature)
        embedded = modality.targets_bottom(x, feature=feature)
        return embedded, modality.top(embedded, feature=feature)


def run_modality_test(
    name: str,
    feature: Feature,
    hparams: HParams,
    *,
    vocabularies: Mapping[str, int] | None = None,
    role: str = "inputs",
    length: int | None = None,
) -> frozenset[str]:
    """Checks what every modality net promises: as `run_layer_test`, and its shapes.

    Args:
      name: of the registered modality.
      feature: a column of it.
      hparams: of any model.
      vocabularies: size of each vocabulary and label set, by name.
      role: "inputs" or "targets".
      length: positions of the column (ids, samples); a few by default.

    Returns:
      Paths of the trainable variables that the role does not use.

    Raises:
      ConformanceError: says what is not kept.
    """
    sizes = dict(vocabularies or {})
    depth = hparams.hidden_size
    problem = made_up_problem("conformance", feature, feature, "To-Test")
    lengths = {} if length is None else {"inputs": length}
    batch = made_up_batch(problem, sizes, lengths=lengths)
    x, mask = batch["inputs"], batch["inputs_mask"]
    if role == "targets" and feature.modality == CLASS_LABEL:
        mask = np.arange(5)[None] < np.array([[5], [3]])
        x = np.random.default_rng(0).normal(size=(2, 5, depth)).astype(np.float32)

    def make() -> _Role:
        return _Role(
            registry.modalities.get(name)(hparams, [feature], sizes), feature, role
        )

    layer = _built(make, x.shape)
    first, second = layer(x, mask, training=False)
    if role == "inputs":
        shape = (len(x), second.shape[1], depth)
        expect(first.shape == shape, f"represents {first.shape}, expected {shape}.")
        expect(second.dtype == tf.bool, f"mask is {second.dtype}, expected bool.")
    else:
        size = sizes[str(feature.vocabulary)]
        expect(second.shape[-1] == size, f"logits {second.shape}, expected {size}.")
        expect(second.dtype == tf.float32, f"logits are {second.dtype}, not float32.")
    return run_layer_test(make, x, mask)


# Models


def run_model_test(
    name: str,
    hparams: HParams,
    problems: Sequence[Problem],
    vocabularies: Mapping[str, int],
) -> None:
    """Checks what every model promises, on each of some problems.

    Unique weight paths; eager = compiled; mixed precision; saved and restored variables
    give the same loss; padding changes nothing; rows do not feel each other, nor do
    examples that share one; no position sees a later target; a training step has finite
    gradients and every variable serves a problem; decoding gives ids of the vocabulary,
    with the scores that teacher forcing gives, whatever the batch and the padding, and
    one position at a time gives what all at once give.

    Args:
      name: of a registered model.
      hparams: of its class; dropout may be on.
      problems: what it shall learn, registered or not.
      vocabularies: size of each vocabulary and label set, by name.

    Raises:
      ConformanceError: says what is not kept.
    """
    model = build_model(name, hparams, problems, vocabularies)
    check_paths(model)
    shake(model)
    restored = build_model(name, hparams, problems, vocabularies)
    check_saved_and_restored(model, restored)
    with dtype_policy(LOW_PRECISION):
        low = build_model(name, hparams, problems, vocabularies)
    for problem in problems:
        batch = made_up_batch(problem, vocabularies)
        losses = model.losses_of(problem.name, batch, training=False)
        again = restored.losses_of(problem.name, batch, training=False)
        expect_close(again, losses, f"{problem.name}: restored model against saved")
        answer = low.losses_of(problem.name, batch, training=True)["loss_sum"]
        expect(is_finite(answer), f"{problem.name}: {LOW_PRECISION} is not finite.")
        losses_of = compiled_losses(model, problem)
        expect_close(
            losses_of(batch), losses, f"{problem.name}: compiled against eager"
        )
        check_padding_changes_nothing(losses_of, problem, vocabularies)
        check_rows_are_independent(losses_of, problem, vocabularies)
        check_packing_changes_nothing(model, problem, vocabularies)
        if problem.targets.modality != CLASS_LABEL:
            check_no_position_sees_a_later_target(model, problem, vocabularies)
        check_decoding(model, problem, batch, vocabularies)
        if problem.targets.modality != CLASS_LABEL:
            check_steps(model, problem, vocabularies)
            check_scores(model, problem, vocabularies)
    unused = {variable.path for variable in model.trainable_variables}
    for problem in problems:
        unused &= _check_model_step(
            model, problem, made_up_batch(problem, vocabularies)
        )
    expect(not unused, f"no problem trains {', '.join(sorted(unused))}.")


def _check_model_step(model, problem, batch) -> frozenset[str]:
    with tf.GradientTape() as tape:
        losses = model.losses_of(problem.name, batch, training=True)
        loss = losses["loss_sum"] / losses["weight"] + losses["auxiliary_loss"]
    expect(is_finite(loss), f"{problem.name}: loss is not finite.")
    return step_down(model, tape, loss)


# Problems


def run_problem_test(
    problem: str | Problem, tmp_dir: str | None = None, num_examples: int = 3
) -> None:
    """Checks what every problem promises.

    It is described; its modalities and metrics are registered; with `tmp_dir`: the
    same examples come twice, fit their features, and are parsed from records to the
    batch that the models expect, eagerly and inside tf.data.

    Args:
      problem: a registered name, or a problem.
      tmp_dir: where its downloads lie (any folder where it has none); None to look at
        no example.
      num_examples: how many examples of each split.

    Raises:
      ConformanceError: says what is not kept.
      TypeError, ValueError: if an example does not fit its feature.
    """
    problem = get_problem(problem) if isinstance(problem, str) else problem
    expect(inspect.getdoc(type(problem)), f"{problem.name} has no docstring.")
    for feature in problem.features.values():
        expect(feature.modality in registry.modalities, f"{feature}: no modality.")
    for metric in problem.metric_names:
        expect(metric in registry.metrics, f"{problem.name}: no metric '{metric}'.")
    splits = problem.splits
    expect(len(set(splits)) == len(splits), f"{problem.name}: splits {splits}.")
    if tmp_dir is None:
        return
    for split in splits:
        first, second = (
            list(itertools.islice(problem.generate(split, tmp_dir), num_examples))
            for _ in range(2)
        )
        what = f"{problem.name}, split '{split}'"
        expect(first, f"{what}: no example.")
        expect(first == second, f"{what}: other examples the second time.")
        check_records(problem, split, first)


# Sets of hparams


def run_hparams_test(
    named_set: str, problems: Sequence[Problem], vocabularies: Mapping[str, int]
) -> int:
    """Checks what every named set promises, without making its weights.

    It is described; gives the same twice; survives being saved with a run; belongs to
    a model, which can be built of it.

    Args:
      named_set: a registered set.
      problems, vocabularies: what the model shall learn, as `build_model`.

    Returns:
      How many trainable numbers the model has.

    Raises:
      ConformanceError: says what is not kept.
    """
    made = configuration.named_hparams(named_set)
    expect(registry.hparams.describe(named_set), f"{named_set} has no docstring.")
    expect(
        made == configuration.named_hparams(named_set), f"{named_set} differs twice."
    )
    expect(dataclasses.is_dataclass(made), f"{named_set} gives {type(made)}.")
    with tempfile.TemporaryDirectory() as folder:
        configuration.save_hparams(made, named_set, folder)
        loaded = configuration.load_hparams(folder)
    expect(loaded == (made, named_set), f"{named_set} read back is {loaded}.")
    counts = [
        count_parameters(name, made, problems, vocabularies)
        for name in registry.models.names()
        if registry.models.get(name).hparams_class is type(made)
    ]
    expect(counts, f"no model takes {type(made).__name__} of {named_set}.")
    return counts[0]


def count_parameters(
    model_name: str,
    hparams: HParams,
    problems: Sequence[Problem],
    vocabularies: Mapping[str, int],
) -> int:
    """Gives how many trainable numbers a model has, without making them.

    Args: as `build_model`.
    """
    with keras.StatelessScope(initialize_variables=False):
        model = build_model(model_name, hparams, problems, vocabularies)
        return sum(math.prod(variable.shape) for variable in model.trainable_variables)

"""The harnesses find what they promise to find."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.laws import (
    ConformanceError,
    check_no_position_sees_a_later_target,
    check_padding_changes_nothing,
    check_paths,
    check_rows_are_independent,
    expect_close,
)
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models.settings import TransformerHParams
from t2t_mm.problem import Feature, Problem
from t2t_mm.testing import run_layer_test, run_modality_test, run_problem_test
from tests.made.models import Sum

WORDS = Feature("text", vocabulary="bytes")
SIZES = {"bytes": 259}
ECHO = made_up_problem("echo", WORDS, WORDS, "To-Echo")
X = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)


class Scale(keras.layers.Layer):
    """A layer that keeps the laws; its children break one each."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[-1:], name="scale")

    def call(self, x):
        return x * self.scale


class SameSizeOnly(Scale):
    def call(self, x):
        if x.shape[1] is None:
            return x
        return x * self.scale


class WideAnswer(Scale):
    def call(self, x):
        return tf.cast(x, tf.float32) * tf.cast(self.scale, tf.float32)


class RootOfZero(Scale):
    def call(self, x):
        return tf.sqrt(tf.nn.relu(x)) * self.scale + tf.sqrt(0.0 * self.scale)


class Unused(Scale):
    def build(self, input_shape):
        super().build(input_shape)
        self.other = self.add_weight(shape=(1,), name="other")


class Twins(keras.layers.Layer):
    def build(self, input_shape):
        self.one = self.add_weight(shape=(1,), name="twin")
        self.other = self.add_weight(shape=(1,), name="twin")


def test_a_good_layer_passes():
    assert not run_layer_test(Scale, X)


@pytest.mark.parametrize(
    "layer, message",
    [
        (SameSizeOnly, "compiled against eager: differs"),
        (WideAnswer, "answers .*float32.*, not bfloat16"),
        (RootOfZero, "gradient of .*scale is not finite"),
    ],
)
def test_a_layer_that_breaks_a_law_is_found(layer, message):
    with pytest.raises(ConformanceError, match=message):
        run_layer_test(layer, X)


def test_variables_without_a_gradient_are_named():
    (path,) = run_layer_test(Unused, X)
    assert path.endswith("other")


def test_two_weights_of_one_path_are_found():
    layer = Twins()
    layer.build((None, 5))
    with pytest.raises(ConformanceError, match="weights share a path: .*twin"):
        check_paths(layer)


def test_nan_is_close_to_nothing():
    with pytest.raises(ConformanceError, match="it: differs by nan"):
        expect_close([np.nan], [0.0], "it")
    with pytest.raises(ConformanceError, match=r"it: shapes \(2,\), \(1, 2\)"):
        expect_close([np.zeros(2)], [np.zeros((1, 2))], "it")


class SeesPadding(Sum):
    def encode(self, x, mask, *, training):
        return x, {}


class FeelsOtherRows(Sum):
    def encode(self, x, mask, *, training):
        x, _ = super().encode(x, mask, training=training)
        return x - tf.reduce_mean(x, 0, keepdims=True), {}


class SeesTheFuture(Sum):
    def decode(self, y, mask, *, source, source_mask, training):
        return tf.cumsum(y, 1, reverse=True), {}


def losses_of(body):
    made = body(
        TransformerHParams(hidden_size=6, num_heads=2), [ECHO], SIZES, name="body"
    )
    made.build()
    return made, lambda batch: made.losses_of("echo", batch, training=False)


def test_a_good_body_keeps_every_law():
    model, losses = losses_of(Sum)
    check_padding_changes_nothing(losses, ECHO, SIZES)
    check_rows_are_independent(losses, ECHO, SIZES)
    check_no_position_sees_a_later_target(model, ECHO, SIZES)


def test_a_body_that_sees_padding_is_found():
    with pytest.raises(ConformanceError, match="echo: with 1 more padded"):
        check_padding_changes_nothing(losses_of(SeesPadding)[1], ECHO, SIZES)


def test_a_body_whose_rows_feel_each_other_is_found():
    with pytest.raises(ConformanceError, match="echo: rows alone against together"):
        check_rows_are_independent(losses_of(FeelsOtherRows)[1], ECHO, SIZES)


def test_a_body_that_sees_the_future_is_found():
    with pytest.raises(ConformanceError, match="echo: outputs before position 0"):
        check_no_position_sees_a_later_target(losses_of(SeesTheFuture)[0], ECHO, SIZES)


class Shout(Problem):
    """Text to upper case; its children break one promise each."""

    inputs = WORDS
    targets = WORDS
    command = "To-Shouted"
    metrics = ("exact_match",)

    def generate(self, split, tmp_dir):
        for word in ("one", "two", "three"):
            yield {"inputs": word, "targets": word.upper()}


class OtherEachTime(Shout):
    """Other examples each time."""

    rng = np.random.default_rng(0)

    def generate(self, split, tmp_dir):
        yield {"inputs": str(self.rng.random()), "targets": "A"}


class Empty(Shout):
    """No examples."""

    def generate(self, split, tmp_dir):
        return iter(())


class Measured(Shout):
    """A metric that nobody knows."""

    metrics = ("beauty",)


class Mute(Shout):
    """Forgets the targets."""

    def generate(self, split, tmp_dir):
        yield {"inputs": "one"}


def test_a_good_problem_passes(tmp_path):
    run_problem_test(Shout(), str(tmp_path))


@pytest.mark.parametrize(
    "problem, error, message",
    [
        (OtherEachTime, ConformanceError, "split 'train': other examples the second"),
        (Empty, ConformanceError, "split 'train': no example"),
        (Measured, ConformanceError, "no metric 'beauty'"),
        (Mute, ValueError, "has the keys inputs; expected inputs, targets"),
    ],
)
def test_a_problem_that_breaks_a_promise_is_found(problem, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run_problem_test(problem(), str(tmp_path))


def test_a_modality_in_a_role_that_it_lacks_is_refused():
    picture = Feature("image", height=3, width=5)
    with pytest.raises(TypeError, match="'image' cannot be targets"):
        run_modality_test("image", picture, TransformerHParams(), role="targets")


def test_made_up_batches_look_like_those_of_the_pipeline():
    batch = made_up_batch(ECHO, SIZES, num_examples=3, lengths={"targets": 11})
    assert batch["inputs"].shape == (3, 7)
    assert batch["targets"].shape == (3, 11)
    for name in ("inputs", "targets"):
        ids, mask = batch[name], batch[f"{name}_mask"]
        lengths = mask.sum(1)
        assert len(set(lengths)) == 3
        assert lengths[0] == ids.shape[1]
        assert not ids[~mask].any()
        for row, length in zip(ids, lengths, strict=True):
            assert row[length - 1] == 1
            assert (row[: length - 1] > 2).all()


@pytest.mark.parametrize("rows", [4, 60, 1000])
@pytest.mark.parametrize("length", [1, 2, 7, 17, 101])
def test_made_up_rows_are_never_much_shorter_than_the_longest(rows, length):
    sizes = {"inputs": length, "targets": length}
    batch = made_up_batch(ECHO, SIZES, num_examples=rows, lengths=sizes)
    lengths = batch["targets_mask"].sum(1)
    assert lengths[0] == length
    assert lengths[-1] >= 0.7 * length
    assert (np.diff(lengths) <= 0).all()
    assert 1 - batch["targets_mask"].mean() < 0.15

"""Several texts in a row: apart in every layer, and in the plan of batches."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm import batch_cuts, batch_plan, input_pipeline, laws
from t2t_mm.configuration import HParams
from t2t_mm.layers.segments import apart, segments_of, together
from t2t_mm.made_up_batches import made_up_batch
from t2t_mm.models import build_model
from t2t_mm.models.settings import MultiModelHParams
from t2t_mm.packing import check_packing, packed_batch
from t2t_mm.problem import get_problem
from t2t_mm.split_reader import SplitReader
from t2t_mm.train_step import TrainSteps
from t2t_mm.training_state import TrainingState
from tests.made.models import CLASSIFY, DEEPER, SIZES, TRANSFORMER, TRANSLATE

MULTIMODEL = dataclasses.replace(
    DEEPER, hidden_size=10, kernels=(3, 3, 15, 15), dilations=(1, 1, 1, 8)
)


def made(hparams, problems=(TRANSLATE,)):
    keras.utils.set_random_seed(1)
    name = "multimodel" if isinstance(hparams, MultiModelHParams) else "transformer"
    model = build_model(name, hparams, list(problems), SIZES)
    laws.shake(model)
    return model


@pytest.mark.parametrize(
    "hparams",
    [
        MULTIMODEL,
        dataclasses.replace(MULTIMODEL, use_attention=False),
        dataclasses.replace(MULTIMODEL, use_moe=False),
        dataclasses.replace(MULTIMODEL, use_attention=False, use_moe=False),
        dataclasses.replace(MULTIMODEL, kernels=(1, 5, 4, 15), dilations=(1, 2, 1, 3)),
        dataclasses.replace(MULTIMODEL, attention_conv_blocks=0, encoder_moe_after=9),
        dataclasses.replace(MULTIMODEL, expert_groups=5, tie_embeddings=True),
        TRANSFORMER,
        dataclasses.replace(TRANSFORMER, tie_embeddings=True, num_heads=5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_losses_scores_and_gradients_are_those_of_single_rows(hparams):
    laws.check_packing_changes_nothing(made(hparams), TRANSLATE, SIZES)


def test_the_law_notices_an_example_that_sees_its_neighbour():
    model = made(TRANSFORMER)
    encode = model.encode

    def seeing(x, mask, *, training, segments=None):
        if segments is not None:
            x += 1e-3 * tf.roll(x, 1, 1)
        return encode(x, mask, training=training, segments=segments)

    model.encode = seeing
    with pytest.raises(laws.ConformanceError, match="packed against each in its row"):
        laws.check_packing_changes_nothing(model, TRANSLATE, SIZES)


def test_examples_of_a_row_are_told_apart_by_their_numbers():
    segments = segments_of(tf.constant([[1, 1, 2, 2, 2], [1, 2, 3, 0, 0]]))
    assert segments.positions.numpy().tolist() == [[0, 1, 0, 1, 2], [0, 0, 0, 0, 0]]
    assert segments.examples.numpy().tolist() == [[0, 0, 1, 1, 1], [2, 3, 4, 0, 0]]
    assert segments.mask.numpy().sum(1).tolist() == [2, 3, 1, 1, 1]
    x = tf.reshape(tf.range(10.0), [2, 5, 1])
    assert apart(x, segments)[..., 0].numpy().tolist() == [
        [0, 1, 0],
        [2, 3, 4],
        [5, 0, 0],
        [6, 0, 0],
        [7, 0, 0],
    ]
    back = together(apart(x, segments), segments).numpy()
    real = segments.is_real.numpy()
    assert back[real].tolist() == x.numpy()[real].tolist()


def test_no_gradient_comes_from_where_there_is_no_position():
    segments = segments_of(tf.constant([[1, 1, 2, 0, 0]]))
    x = tf.random.normal([1, 5, 3])
    rows = tf.random.normal([2, 2, 3])
    with tf.GradientTape() as tape:
        tape.watch([x, rows])
        loss = tf.reduce_sum(apart(x, segments) ** 2)
        loss += tf.reduce_sum(together(rows, segments) ** 2)
    of_x, of_rows = tape.gradient(loss, [x, rows])
    expected = 2 * x * tf.constant([1.0, 1, 1, 0, 0])[None, :, None]
    np.testing.assert_allclose(of_x, expected, rtol=1e-6)
    expected = 2 * rows * tf.constant([[1.0, 1], [1, 0]])[..., None]
    np.testing.assert_allclose(of_rows, expected, rtol=1e-6)


def test_a_batch_is_packed_in_order():
    batch = {
        "inputs": [[5, 6, 1], [7, 1, 0], [8, 9, 1]],
        "inputs_mask": [[True] * 3, [True, True, False], [True] * 3],
        "targets": [[4, 1], [1, 0], [3, 1]],
        "targets_mask": [[True] * 2, [True, False], [True] * 2],
    }
    packed = packed_batch(batch, [0, 0, 1])
    found = {name: value.numpy().tolist() for name, value in packed.items()}
    assert found["inputs"] == [[5, 6, 1, 7, 1], [8, 9, 1, 0, 0]]
    assert found["inputs_segments"] == [[1, 1, 1, 2, 2], [1, 1, 1, 0, 0]]
    assert found["targets"] == [[4, 1, 1], [3, 1, 0]]
    assert found["targets_segments"] == [[1, 1, 2], [1, 1, 0]]
    assert found["targets_mask"] == [[True] * 3, [True, True, False]]


def test_each_example_gets_the_first_row_with_room():
    limits = batch_cuts.BatchLimits({0: 20, 1: 20}, 0, {0: 10, 1: 10}, 10)
    lengths = [(6, 1), (5, 1), (4, 1), (1, 9), (4, 1), (1, 1)]
    assert batch_cuts.shared_rows(lengths, limits) == [0, 1, 0, 1]


PACKED = HParams(batch_tokens=97, max_length=30, pack_length=40)


def test_an_epoch_of_packed_batches_has_every_example_once(small_problems, small_data):
    problem = get_problem("small_reverse")
    reader = SplitReader(problem, "train", small_data)
    limits = batch_plan.batch_limits(problem, PACKED)
    rows = batch_plan.kept_rows(reader.index, limits)
    plan = batch_plan.training_plan(reader.index, rows, limits, (1, 0))
    assert sorted(np.concatenate(plan)) == rows.tolist()
    signature = input_pipeline.training_signature(problem, PACKED)
    for batch_rows in plan:
        batch = input_pipeline.training_batch(
            problem, *input_pipeline.read_batch(reader, batch_rows, limits), limits
        )
        assert set(batch) == set(signature)
        assert all(signature[name].is_compatible_with(batch[name]) for name in batch)
        for name in ("inputs", "targets"):
            assert batch[name].shape[0] <= 2
            assert batch[name].shape[1] <= 40
        numbers = [batch[f"{name}_segments"].numpy() for name in ("inputs", "targets")]
        assert (numbers[0].max(1) == numbers[1].max(1)).all()
        assert sum(numbers[0].max(1)) == len(batch_rows)


def test_packed_batches_go_on_where_they_were(small_problems, small_data):
    problem = get_problem("small_reverse")

    def batches(number, start=(0, 0)):
        dataset = input_pipeline.training_batches(
            problem, small_data, PACKED, seed=1, start=start
        )
        return list(dataset.take(number).as_numpy_iterator())

    whole = batches(17)
    position = tuple(whole[6][0])
    for (at, batch), (expected_at, expected) in zip(
        batches(10, position), whole[7:], strict=True
    ):
        assert at.tolist() == expected_at.tolist()
        assert all(np.array_equal(batch[name], expected[name]) for name in expected)


def test_packing_leaves_less_padding():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 30, (3001, 2))
    index = np.concatenate([np.zeros((3001, batch_plan.LENGTHS), int), lengths], 1)
    shares = []
    for pack_length in (0, 101):
        hparams = HParams(batch_tokens=307, max_length=30, pack_length=pack_length)
        limits = batch_plan.batch_limits(TRANSLATE, hparams)
        plan = batch_plan.training_plan(index, np.arange(3001), limits, (1, 0))
        shares.append(batch_plan.epoch_padding(index, plan, limits))
    assert shares[1].together < shares[0].together
    # By hand: of each batch the widest row times the rows, against what is real.
    real = padded = np.zeros(2)
    for rows in plan:
        numbers = np.array(batch_cuts.shared_rows(lengths[rows].tolist(), limits))
        for_rows = [lengths[rows][numbers == row].sum(0) for row in set(numbers)]
        real = real + np.sum(for_rows, 0)
        padded = padded + len(for_rows) * np.max(for_rows, 0)
    expected = [*(1 - real / padded), 1 - real.sum() / padded.sum()]
    assert shares[1] == pytest.approx(expected)


def test_packed_and_other_problems_train_in_one_run():
    hparams = dataclasses.replace(
        MULTIMODEL, pack_length=64, max_length=64, batch_tokens=64
    )
    problems = [TRANSLATE, CLASSIFY]
    model = made(hparams, problems)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    state = TrainingState(model, optimizer, [one.name for one in problems])
    signatures = {
        one.name: input_pipeline.training_signature(one, hparams) for one in problems
    }
    steps = TrainSteps(state, signatures, 1.0)
    packed = packed_batch(
        made_up_batch(TRANSLATE, SIZES, num_examples=5), [0, 0, 0, 1, 1]
    )
    single = {k: tf.constant(v) for k, v in made_up_batch(CLASSIFY, SIZES).items()}
    losses = [float(steps("translate", packed)[0][0]) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert np.isfinite(steps("classify", single)[0]).all()


@pytest.mark.parametrize(
    "changes, problems, message",
    [
        ({}, [CLASSIFY], "classify \\(text to class_label\\); expected a problem from"),
        ({"takes_packed_rows": False}, [TRANSLATE], "model 'mine', which does not say"),
        ({"has_static_shapes": True}, [TRANSLATE], "--xla or --strategy=tpu"),
    ],
)
def test_packing_is_refused_where_it_cannot_be(changes, problems, message):
    asked = {"model": "mine", "takes_packed_rows": True, "has_static_shapes": False}
    with pytest.raises(ValueError, match=message):
        check_packing(PACKED, problems, **asked | changes)
    check_packing(HParams(), problems, **asked | changes)


@pytest.mark.parametrize("pack_length", [29, 98])
def test_a_row_must_hold_any_text_and_fit_in_a_batch(pack_length):
    with pytest.raises(ValueError, match="expected a number from the first to the"):
        dataclasses.replace(PACKED, pack_length=pack_length)

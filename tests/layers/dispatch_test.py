import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers import dispatch, expert_networks
from t2t_mm.layers import experts as experts_of
from tests.made.experts import SIZE, answers_of_all, made, normal


def step_of(layer, x, mask):
    """Answers, statistics and the gradient of every weight and of x, in training."""
    x = tf.constant(x)
    variables = [variable.value for variable in layer.trainable_variables]
    weight = normal(*x.shape, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        answers, statistics = layer(x, mask, training=True)
        loss = tf.reduce_sum(answers * weight) + statistics["balance_loss"]
    gradients = tape.gradient(loss, [x, *variables])
    return answers, statistics, [tf.convert_to_tensor(one) for one in gradients]


@pytest.mark.parametrize("num_experts, k", [(7, 2), (5, 1), (3, 3)])
def test_with_room_for_all_capacity_gives_what_exact_dispatch_gives(
    known_noise, num_experts, k
):
    exact = made(num_experts, k)
    bounded = made(num_experts, k, capacity_factor=num_experts / k)
    x, mask = normal(2, 11, SIZE), np.arange(11)[None] < [[11], [6]]
    expected, statistics, gradients = step_of(exact, x, mask)
    found, bounded_statistics, bounded_gradients = step_of(bounded, x, mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert bounded_statistics.keys() == statistics.keys()
    for name, value in statistics.items():
        np.testing.assert_allclose(bounded_statistics[name], value, rtol=1e-4)
    assert float(statistics["dropped"]) == 0
    for one, other in zip(bounded_gradients, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("most", [1, 3])
def test_experts_in_parts_answer_and_learn_as_all_at_once(
    known_noise, monkeypatch, most
):
    layer = made(7, 2)
    x, mask = normal(4, 30, SIZE), np.arange(30)[None] < [[30], [6], [30], [30]]
    found = {}
    for max_parts in (most, 32):
        monkeypatch.setattr(experts_of, "MAX_PARTS", max_parts)
        answers, _, gradients = step_of(layer, x, mask)
        found[len(layer._parts())] = [answers, *gradients]
    assert sorted(found) == [most, 7]
    for one, other in zip(found[most], found[7], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("max_parts", [2, 32])
def test_experts_that_nobody_asks_do_not_learn(monkeypatch, dtype, max_parts):
    monkeypatch.setattr(experts_of, "MAX_PARTS", max_parts)
    layer = made(4, 1)
    experts = tf.constant([[2], [2], [2]])
    x = tf.cast(normal(3, SIZE), dtype)
    weights = [weight.value for weight in layer.groups[0][1:]]
    with tf.GradientTape() as tape:
        plan = dispatch.exact_plan(experts, layer._parts())
        rows = dispatch.to_rows(x, plan)
        answers = expert_networks.answers(rows, weights, plan.parts, plan.capacities)
        loss = tf.reduce_sum(dispatch.from_rows(answers, plan))
    for gradient in tape.gradient(loss, weights):
        assert gradient.dtype == tf.float32
        learned = np.abs(gradient.numpy()).sum((1, 2)) > 0
        np.testing.assert_array_equal(learned, [False, False, True, False])


def test_each_part_has_the_rows_that_its_fullest_expert_needs():
    # Loads 1, 5, 2, 2, 0: rows come four at a time.
    experts = tf.constant([[1], [0], [1], [2], [1], [3], [1], [2], [1], [3]])
    plan = dispatch.exact_plan(experts, [2, 2, 1])
    assert [int(capacity) for capacity in plan.capacities] == [8, 4, 0]
    np.testing.assert_array_equal(
        plan.row_of_choice[:, 0], [8, 0, 9, 16, 10, 20, 11, 17, 12, 21]
    )
    expected = np.full(24, 10)
    expected[plan.row_of_choice[:, 0]] = np.arange(10)
    np.testing.assert_array_equal(plan.choice_of_row, expected)


@pytest.mark.parametrize(
    "num_experts, num_groups, expected",
    [
        (30, 1, [1] * 30),
        (70, 1, [3] * 23 + [1]),
        (240, 1, [8] * 30),
        (70, 2, ([3] * 11 + [2]) * 2),
    ],
)
def test_parts_are_few_and_keep_to_their_group(num_experts, num_groups, expected):
    layer = made(num_experts, 1, num_groups=num_groups)
    assert layer._parts() == expected


def test_a_full_expert_drops_the_later_positions_and_counts_them(known_noise):
    layer = made(3, 1, capacity_factor=1.0)  # room for ceil(11 / 3) = 4 each
    gate = np.zeros((SIZE, 3), np.float32)
    gate[:, 1] = 50
    layer.gate.assign(gate)
    layer.gate_noise.assign(np.full((SIZE, 3), -9, np.float32))
    x, mask = np.abs(normal(1, 11, SIZE)), np.arange(11)[None] < [[9]]
    answers, statistics = layer(x, mask, training=True)
    expected = answers_of_all(layer, x[0])[:, 1]
    np.testing.assert_allclose(answers[0, :4], expected[:4], atol=1e-4)
    assert not answers.numpy()[0, 4:].any()
    assert float(statistics["dropped"]) == pytest.approx(5 / 9)
    assert float(layer(x, mask, training=False)[1]["dropped"]) == 0


def test_first_choices_find_room_before_second_ones():
    # Two experts with one row each. The second choice of the first position comes
    # after the first choice of the second position, which takes expert 1.
    experts, is_real = tf.constant([[0, 1], [1, 0]]), tf.constant([True, True])
    plan = dispatch.capacity_plan(experts, is_real, [2], factor=0.5)
    assert plan.capacities == [1]
    np.testing.assert_array_equal(plan.row_of_choice, [[0, 2], [1, 2]])
    np.testing.assert_array_equal(plan.choice_of_row, [0, 2])
    assert float(plan.num_dropped) == 2


def test_padding_takes_no_row_from_anybody():
    experts = tf.constant([[0], [0], [0]])
    is_real = tf.constant([False, True, True])
    plan = dispatch.capacity_plan(experts, is_real, [1], factor=1 / 3)
    np.testing.assert_array_equal(plan.row_of_choice, [[1], [0], [1]])
    assert float(plan.num_dropped) == 1


@pytest.mark.parametrize("num_positions", [12, tf.constant(12)])
def test_capacity_is_a_share_rounded_up_and_never_more_than_all(num_positions):
    capacities = [
        int(dispatch.capacity_of(num_positions, 2, 5, factor))
        for factor in (0.1, 1.0, 1.5, 9.0)
    ]
    assert capacities == [1, 5, 8, 12]  # 0.48, 4.8, 7.2, 43.2


XLA_STEP = """
import keras, numpy as np, tensorflow as tf
from t2t_mm.layers import noise
from t2t_mm.layers.experts import MixtureOfExperts

layer = MixtureOfExperts(
    num_experts=7, expert_size=3, experts_per_position=2, capacity_factor=1.0
)
layer.build((None, None, 5))
values = np.random.default_rng(0)
for variable in layer.trainable_variables:
    variable.assign(values.normal(size=variable.shape).astype(np.float32))
x = tf.constant(values.normal(size=(2, 11, 5)).astype(np.float32))
mask = tf.constant(np.arange(11)[None] < [[11], [6]])

# The two draw other random numbers.
drawn = tf.constant(values.normal(size=(22, 7)).astype(np.float32))
noise.normal = lambda shape, seed: drawn

def step(x, mask):
    with tf.GradientTape() as tape:
        tape.watch(x)
        answers, statistics = layer(x, mask, training=True)
        loss = tf.reduce_sum(tf.square(answers)) + statistics["balance_loss"]
    weights = [variable.value for variable in layer.trainable_variables]
    return [loss, statistics["dropped"], *tape.gradient(loss, [x, *weights])]

results = []
for jit_compile in (True, False):
    results.append(tf.function(step, jit_compile=jit_compile, autograph=False)(x, mask))
assert 0 < float(results[0][1]) < 1, results[0][1]
for compiled, plain in zip(*results):
    np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-3)
print("same")
"""


def test_a_step_with_capacity_compiles_with_xla_to_the_same_numbers():
    done = subprocess.run(
        [sys.executable, "-c", XLA_STEP], capture_output=True, text=True
    )
    assert done.stdout.strip() == "same", done.stderr[-2000:]

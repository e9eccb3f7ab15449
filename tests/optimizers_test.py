import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm import optimizers, registry
from t2t_mm.configuration import HParams
from t2t_mm.fused_adam import FusedAdam
from t2t_mm.schedules import OptimizerSchedule, make_schedule

ANY = HParams(learning_rate=0.1, schedule="constant*linear_warmup", warmup_steps=4)
HPARAMS = dataclasses.replace(ANY, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-7)
SHAPES = [(3, 5), (5,), (2, 3, 7)]


def made_variables(seed=0):
    rng = np.random.default_rng(seed)
    return [
        keras.Variable(rng.normal(size=shape).astype(np.float32), name=f"v{i}")
        for i, shape in enumerate(SHAPES)
    ]


def made_gradients(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def train(optimizer, variables, num_steps):
    @tf.function
    def update(gradients):
        optimizer.apply(gradients, variables)

    for step in range(num_steps):
        update([tf.constant(gradient) for gradient in made_gradients(step)])
    return [variable.numpy() for variable in variables]


def test_adam_computes_the_formula():
    variables = made_variables()
    expected = [variable.numpy().astype(np.float64) for variable in variables]
    m = [np.zeros(shape) for shape in SHAPES]
    v = [np.zeros(shape) for shape in SHAPES]
    for step in range(5):
        t, rate = step + 1, 0.1 * min(1.0, (step + 1) / 4)
        rate *= np.sqrt(1 - 0.95**t) / (1 - 0.8**t)
        for i, gradient in enumerate(made_gradients(step)):
            m[i] += 0.2 * (gradient - m[i])
            v[i] += 0.05 * (gradient.astype(np.float64) ** 2 - v[i])
            expected[i] -= rate * m[i] / (np.sqrt(v[i]) + 1e-7)
    optimizer = optimizers.make_optimizer(HPARAMS, variables, 100)
    for found, wanted in zip(train(optimizer, variables, 5), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert int(optimizer.iterations) == 5


@pytest.mark.parametrize("weight_decay", [None, 0.3])
def test_fused_adam_is_the_adam_of_keras(weight_decay):
    found = []
    for make in (FusedAdam, keras.optimizers.Adam):
        variables = made_variables()
        rate = OptimizerSchedule(make_schedule(HPARAMS, 100))
        optimizer = make(rate, beta_2=0.98, epsilon=1e-9, weight_decay=weight_decay)
        optimizer.build(variables)
        found.append(train(optimizer, variables, 5))
    for fused, plain in zip(*found, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["adam", "adamw", "adafactor", "lamb", "lion", "momentum"]
)
def test_every_optimizer_goes_down_hill_and_leaves_the_rest_alone(name):
    variables = made_variables()
    hparams = dataclasses.replace(ANY, optimizer=name, learning_rate=0.01)
    optimizer = optimizers.make_optimizer(hparams, variables, 100)
    before = [variable.numpy() for variable in variables]
    assert sorted(registry.optimizers.names()) == sorted(
        ["adam", "adamw", "adafactor", "lamb", "lion", "momentum"]
    )
    for _ in range(10):
        optimizer.apply([tf.constant(variables[0])], variables[:1])
    assert np.square(variables[0].numpy()).sum() < np.square(before[0]).sum()
    for variable, value in zip(variables[1:], before[1:], strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lamb", "lion", "momentum"])
def test_weight_decay_shrinks_matrices_only(name):
    hparams = dataclasses.replace(
        ANY, optimizer=name, weight_decay=0.5, schedule="constant"
    )
    variables = made_variables()
    optimizer = optimizers.make_optimizer(hparams, variables, 100)
    before = [variable.numpy() for variable in variables]
    optimizer.apply([tf.zeros(shape) for shape in SHAPES], variables)
    np.testing.assert_allclose(variables[0].numpy(), 0.95 * before[0], rtol=1e-5)
    np.testing.assert_array_equal(variables[1].numpy(), before[1])
    np.testing.assert_allclose(variables[2].numpy(), 0.95 * before[2], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("kernel", (3, 5), True),
        ("hidden_0", (8, 3, 5), True),
        ("depthwise", (3, 3, 24), True),
        ("kernel", (1, 1, 5), False),
        ("scale", (5,), False),
        ("hidden_bias", (8, 1, 5), False),
        ("output_bias_0", (8, 1, 5), False),
    ],
)
def test_decay_is_for_matrices(name, shape, expected):
    variable = keras.Variable(np.zeros(shape, np.float32), name=name)
    assert optimizers.is_matrix(variable) == expected


def test_an_update_of_nothing_is_counted_and_one_more_is_its_first():
    """Without the count the rate would be that of step -1, and Adam divide 0 by 0."""
    results = []
    for is_together in (True, False):
        variables = made_variables()
        optimizer = optimizers.make_optimizer(ANY, variables, 100)
        gradients = made_gradients(0)
        some = ([gradients[0]], [variables[0]])
        optimizers.apply_update(optimizer, *(some if is_together else ([], [])))
        if not is_together:
            optimizers.apply_to_one_more(optimizer, gradients[0], variables[0])
        assert int(optimizer.iterations) == 1
        results.append(variables[0].numpy())
    np.testing.assert_array_equal(*results)
    assert (results[0] != made_variables()[0].numpy()).any()


def test_adam_with_weight_decay_is_refused():
    hparams = dataclasses.replace(HPARAMS, weight_decay=0.1)
    with pytest.raises(ValueError, match="expected 0, since adam does not decay"):
        optimizers.make_optimizer(hparams, made_variables(), 100)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("adafactor", "adam_beta1"),
        ("adafactor", "adam_beta2"),
        ("lion", "adam_epsilon"),
        ("momentum", "adam_beta2"),
    ],
)
def test_a_setting_that_the_optimizer_does_not_read_is_refused(name, setting):
    hparams = dataclasses.replace(ANY, optimizer=name, **{setting: 0.25})
    with pytest.raises(ValueError, match=f"came with {setting}=0.25.*Set {setting}="):
        optimizers.make_optimizer(hparams, made_variables(), 100)


def test_an_optimizer_of_ones_own_may_read_all_settings_at_once():
    @registry.register_optimizer(name="whole_set")
    def whole_set(hparams, learning_rate):
        values = dataclasses.asdict(hparams)
        return keras.optimizers.SGD(learning_rate, values["adam_beta2"])

    try:
        hparams = dataclasses.replace(HPARAMS, optimizer="whole_set", adam_beta2=0.25)
        optimizer = optimizers.make_optimizer(hparams, made_variables(), 100)
    finally:
        registry.optimizers.forget("whole_set")
    assert optimizer.momentum == 0.25


def test_an_unknown_optimizer_is_refused_with_the_nearest():
    hparams = dataclasses.replace(HPARAMS, optimizer="adam_w")
    with pytest.raises(registry.UnknownNameError, match="Nearest: adamw, adam"):
        optimizers.make_optimizer(hparams, made_variables(), 100)


def test_clipping_scales_all_gradients_together():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    clipped, norm = optimizers.clip_by_global_norm(gradients, 1.0)
    assert float(norm) == 5.0
    np.testing.assert_allclose(clipped[0], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped[1], [[0.8]], rtol=1e-6)


@pytest.mark.parametrize("clip_norm", [0.0, 5.0, 7.0])
def test_clipping_leaves_small_gradients_as_they_are(clip_norm):
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    clipped, norm = optimizers.clip_by_global_norm(gradients, clip_norm)
    assert float(norm) == 5.0
    for before, after in zip(gradients, clipped, strict=True):
        np.testing.assert_array_equal(before, after)


def test_clipping_spreads_what_is_no_number():
    gradients = [tf.constant([3.0, np.nan]), tf.constant([[4.0]])]
    clipped, norm = optimizers.clip_by_global_norm(gradients, 7.0)
    assert np.isnan(norm) and np.isnan(clipped[0]).all() and np.isnan(clipped[1]).all()

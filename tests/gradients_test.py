import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from t2t_mm.gradients import custom_gradient


@custom_gradient
def doubled(x):
    """Twice x, whose gradient says 5, so that one sees whose it is."""

    def gradient(upstream):
        return 5.0 * upstream + 0.0 * x

    return 2.0 * x, gradient


def gradient_of(function, x=3.0):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return float(y), float(tape.gradient(y, x))


def within(function):
    """The gradient taken in the graph, as a training step does."""

    @tf.function
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x)

    return tuple(float(one) for one in both(tf.constant(3.0)))


def looped(x):
    return tf.while_loop(lambda i, _: i < 2, lambda i, x: (i + 1, doubled(x)), (0, x))[
        1
    ]


def chosen(x):
    return tf.cond(x > 0, lambda: doubled(1.0 * x), lambda: x)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (doubled, (6.0, 5.0)),
        (tf.function(doubled), (6.0, 5.0)),
        (tf.function(doubled, jit_compile=True), (6.0, 5.0)),
        (tf.function(tf.function(doubled)), (6.0, 5.0)),
        (tf.function(chosen), (6.0, 5.0)),
        (tf.function(looped), (12.0, 25.0)),
        (tf.function(lambda x: tf.recompute_grad(doubled)(x)), (6.0, 5.0)),
        (tf.function(lambda x: tf.map_fn(doubled, x[None])[0]), (6.0, 5.0)),
    ],
    ids="eager graph XLA nested cond while recomputed mapped".split(),
)
@pytest.mark.parametrize("taken", [gradient_of, within])
def test_the_gradient_is_the_own_one_wherever_it_is_taken(function, wanted, taken):
    assert taken(function) == wanted


def test_several_results_and_arguments_have_their_gradients():
    @custom_gradient
    def both(x, y):
        return (x + y, x * y), lambda of_sum, of_product: (of_sum, of_product)

    @tf.function
    def gradients(x, y):
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            first, second = both(x, y)
            loss = 2.0 * first + 3.0 * second
        return tape.gradient(loss, [x, y])

    found = gradients(tf.constant(1.0), tf.constant(1.0))
    np.testing.assert_array_equal(found, [2.0, 3.0])


def test_the_graph_goes_with_its_function():
    def names():
        return set(ops.gradient_registry.list())

    function = tf.function(lambda x: doubled(x) + doubled(-x))
    gradient_of(function)
    concrete = function.get_concrete_function(tf.TensorSpec([], tf.float32))
    graph, before = weakref.ref(concrete.graph), names()
    del concrete, function
    gc.collect()
    assert graph() is None
    assert len(before - names()) >= 2


def test_training_again_and_again_keeps_no_graph(small_zoo, small_data, tmp_path):
    from t2t_mm import trainer

    def kept():
        gc.collect()
        return len(list(ops.gradient_registry.list()))

    before = kept()
    for number in range(2):
        trainer.train(
            output_dir=str(tmp_path / str(number)),
            train_steps=1,
            model="multimodel",
            hparams_set="multimodel_tiny",
            hparams="hidden_size=16,num_heads=2,batch_examples=4",
            problem="small_reverse",
            data_dir=small_data,
            evaluate=False,
            progress=False,
        )
    assert kept() <= before

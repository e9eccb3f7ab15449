import pytest
import tensorflow as tf

from t2t_mm.configuration import HParams
from t2t_mm.precision import computing_in
from t2t_mm.step_errors import (
    OutOfMemoryError,
    WorkerLostError,
    memory_explained,
    size_explained,
    workers_explained,
)


def batch_of(rows, *shape, dtype=tf.int32):
    inputs = tf.zeros([rows, *(shape or (7,))], dtype)
    return {"inputs": inputs, "targets": tf.zeros([rows, 5], tf.int32)}


@pytest.mark.parametrize(
    ("batch", "remedy"),
    [
        (batch_of(3), r"Lower batch_tokens \(1024\): --hparams=batch_tokens=512\."),
        (batch_of(1), r"too long: lower max_length \(256\)"),
        (batch_of(3, 7, dtype=tf.float32), r"--hparams=batch_seconds=30\."),
        (batch_of(1, 7, dtype=tf.float32), r"too long: lower max_seconds \(20\)"),
        (batch_of(3, 7, 8, 3, dtype=tf.float32), r"--hparams=batch_examples=16\."),
        (batch_of(1, 7, 8, 3, dtype=tf.float32), r"picture .*hidden_size \(128\) or"),
    ],
)
def test_memory_that_runs_out_names_the_batch_and_the_remedy(batch, remedy):
    rows = len(batch["inputs"])
    message = rf"'copy' on a batch of {rows} .*\[{rows}, 7.*\[{rows}, 5\].*{remedy}"
    with (
        pytest.raises(OutOfMemoryError, match=message),
        memory_explained("copy", HParams(), batch),
    ):
        tf.zeros([10**6, 10**9])  # four petabytes


def test_an_evaluation_that_needs_too_much_says_so():
    with (
        pytest.raises(OutOfMemoryError, match="'copy' in an evaluation"),
        memory_explained("copy", HParams()),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")


def test_memory_of_python_counts_too():
    with (
        pytest.raises(OutOfMemoryError, match="on a batch of 3 .*: MemoryError. Exp"),
        memory_explained("copy", HParams(), batch_of(3)),
    ):
        raise MemoryError


def test_a_failure_to_word_the_failure_hides_nothing():
    with (
        pytest.raises(OutOfMemoryError, match="of 3 .*: OOM when allocating"),
        memory_explained("copy", HParams(), batch_of(3)),
    ):
        try:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        except tf.errors.ResourceExhaustedError:
            raise ValueError("cannot be written down")  # noqa: B904


def test_a_network_that_does_not_fit_says_what_makes_it_smaller():
    with (
        pytest.raises(OutOfMemoryError, match=r"was built: .* hidden_size \(128\)"),
        size_explained(HParams()),
    ):
        tf.zeros([10**6, 10**9])  # four petabytes


def test_a_lost_worker_is_named():
    text = (
        "Graph execution error:\n\nCollective ops is aborted by: The following tasks "
        "are unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:1"
    )
    with (
        pytest.raises(WorkerLostError, match=r"is gone .* start all workers again"),
        workers_explained(),
    ):
        raise tf.errors.UnavailableError(None, None, text)


def test_other_errors_stay_what_they_are():
    with pytest.raises(tf.errors.InternalError, match="a bug"), workers_explained():
        raise tf.errors.InternalError(None, None, "a bug")
    with (
        pytest.raises(tf.errors.InvalidArgumentError),
        memory_explained("copy", HParams(), batch_of(1)),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "wrong")


def test_precision_holds_within_and_not_after():
    import keras

    before = keras.config.dtype_policy().name
    with computing_in("mixed_bfloat16", tf32=False):
        layer = keras.layers.Dense(3)
        layer.build((None, 2))
        assert (layer.compute_dtype, layer.kernel.dtype) == ("bfloat16", "float32")
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    assert keras.config.dtype_policy().name == before
    assert tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mixed_float16", "underflow without loss scaling"),
        ("float64", "expected one of float32, mixed_bfloat16"),
    ],
)
def test_other_precisions_are_refused(name, message):
    with pytest.raises(ValueError, match=message), computing_in(name):
        pass

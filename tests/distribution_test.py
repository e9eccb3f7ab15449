import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.distribution import ONE_DEVICE, Distribution
from t2t_mm.made_static import padded_to_static, rounded_up
from t2t_mm.replicas import num_replicas, sum_over_replicas

PROGRAM = os.path.join(os.path.dirname(__file__), "programs", "two_replicas.py")


def check_replicas(*cases):
    done = subprocess.run(
        [sys.executable, PROGRAM, *cases], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    differences = json.loads(done.stdout.splitlines()[-1])
    assert list(differences) == list(cases)
    for case, found in differences.items():
        assert found["replicas"] == 2, case
        assert found["same_names"], case
        assert found["moved"] > 0.01, case
        assert found["numbers"] < 1e-5, (case, found)
        assert found["values"] < 1e-5, (case, found)
        assert found["copies"] == 0.0, case
        assert found["seeds_differ"], case
    return differences


def test_two_replicas_learn_what_one_device_learns_from_the_same_batches():
    # The last: accumulation, PCGrad, moving averages, balanced and weighted losses.
    cases = ("transformer, momentum", "multimodel, fixed shapes", "all at once")
    assert check_replicas(*cases)["all at once"]["seeds"], "the gates draw noise"


@pytest.mark.slow
def test_two_replicas_learn_the_same_with_each_kind_of_update_alone():
    check_replicas(
        *("multimodel, adam", "multimodel, capacity", "accumulation", "PCGrad"),
        *("moving averages", "balanced losses"),
    )


def test_one_device_sums_nothing_and_asks_nobody():
    assert num_replicas() == 1
    tensor = tf.constant([1.0, 2.0])
    assert sum_over_replicas(tensor) is tensor
    assert ONE_DEVICE.total(3.0) == 3.0
    ONE_DEVICE.check_same_step(7, "anywhere")
    assert ONE_DEVICE.describe() == "one device"


def test_one_device_gets_the_whole_batch():
    signature = {"x": tf.TensorSpec([None, None], tf.float32)}

    def step(batch, share, factor):
        return tf.reduce_sum(batch["x"]) * share * factor

    compiled = ONE_DEVICE.compile(step, signature, tf.TensorSpec([], tf.float32))
    for rows in (2, 3):
        batch = {"x": tf.ones([rows, 5])}
        assert float(compiled(batch, tf.constant(2.0))) == 10.0 * rows


def test_with_xla_each_fixed_shape_is_compiled_once():
    traces = []

    def step(batch, share):
        traces.append(batch["inputs"].shape)
        return tf.reduce_sum(tf.cast(batch["inputs_mask"], tf.float32)) * share

    compiled = Distribution(use_xla=True).compile(step, {})
    for rows, length in ((2, 3), (3, 5), (8, 8), (9, 5)):
        batch = {
            "inputs": tf.ones([rows, length], tf.int32),
            "inputs_mask": tf.ones([rows, length], tf.bool),
        }
        assert float(compiled(batch)) == rows * length
    assert traces == [(8, 8), (12, 8)]


def test_lengths_are_rounded_up_by_a_third_at_most():
    sizes = np.arange(8, 5000)
    steps = np.array([rounded_up(int(size)) for size in sizes])
    assert (steps >= sizes).all()
    assert (steps <= sizes * 1.5).all()
    assert len(set(steps)) < 22
    assert [rounded_up(size) for size in (8, 12, 16, 24)] == [8, 12, 16, 24]


def test_padding_to_fixed_shapes_adds_only_masked_positions():
    batch = {
        "inputs": np.ones([3, 9, 9, 3], np.float32),
        "inputs_mask": np.ones([3, 9, 9], bool),
        "targets": np.array([[5], [6], [7]], np.int32),
        "targets_mask": np.ones([3, 1], bool),
    }
    padded = padded_to_static(batch, multiple=5)
    assert [tuple(value.shape) for value in padded.values()] == [
        (10, 9, 9, 3),
        (10, 9, 9),
        (10, 1),
        (10, 1),
    ]
    assert int(tf.reduce_sum(tf.cast(padded["inputs_mask"], tf.int32))) == 3 * 81
    np.testing.assert_array_equal(
        padded["targets_mask"][:, 0], [True] * 3 + [False] * 7
    )


def test_rows_are_copied_where_there_are_too_few_and_count_nothing():
    class Context:
        def __init__(self, replica):
            self.replica_id_in_sync_group = replica

    class Strategy:
        def experimental_distribute_values_from_function(self, part):
            return [part(Context(replica)) for replica in range(3)]

    distribution = Distribution()
    distribution._strategy, distribution.num_replicas = Strategy(), 3
    for rows, expected in ((1, [0, 0, 1]), (2, [0, 1, 1]), (7, [1, 1, 1])):
        batch = {"x": tf.range(rows), "x_mask": tf.fill([rows, 1], True)}
        parts = distribution.split(batch)
        assert [float(share) for _, share in parts] == expected
        kept = [part["x"].numpy().tolist() for part, share in parts if float(share)]
        assert sum(kept, []) == list(range(rows))
        assert all(len(part["x"]) for part, _ in parts)
        for part, share in parts:
            assert part["x_mask"].numpy().all() == bool(share)


def of_two(other):
    """A worker of two; `other` gives what the other one says when it is asked."""
    distribution = Distribution()
    distribution.num_workers = 2
    distribution.total = lambda number: number + other(number)
    return distribution


def test_workers_with_the_same_settings_go_on():
    of_two(lambda number: number).check_same({"seed": 1, "size": 8})


def test_workers_with_other_settings_are_refused_and_these_are_named():
    said = []
    settings = {"seed": 1, "size": 8, "steps": 3}
    recorder = of_two(lambda number: said.append(number) or -number - 1.0)
    with pytest.raises(ValueError, match="different settings: the model"):
        recorder.check_same(settings)
    # The other one's answers: the same names, and of the values one that differs.
    answers = iter([0, 1, 0, 1, 0])
    different = of_two(lambda number: number + next(answers))
    with pytest.raises(ValueError, match=r"different settings: size\. .*the same com"):
        different.check_same(settings)


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_a_folder_that_not_all_workers_see_is_refused(tmp_path, others):
    asked = []
    worker = of_two(lambda number: others if asked.append(number) or asked[1:] else 0)
    if others:
        (tmp_path / "run.json").touch()
    with pytest.raises(ValueError, match="^1 of 2 workers do not see .*run.json"):
        worker.check_same_folder(str(tmp_path / "run.json"), seconds=0.0)


@pytest.mark.parametrize(("step", "total"), [(10.0, 15.0), (5.0, 15.0)])
def test_workers_that_start_apart_are_refused(step, total):
    distribution = Distribution()
    distribution.num_workers = 2
    distribution.total = lambda _: total
    with pytest.raises(ValueError, match=r"starts at step .*folder that all machines"):
        distribution.check_same_step(step, "runs/x")

import json
import logging
import socket
import time

import pytest
import tensorflow as tf

from t2t_mm.strategy import make_distribution, missing_workers_named

TWO = {"worker": ["a:1", "b:1"]}


def config(cluster, job="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})


def test_without_flags_one_device_is_used(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("auto", "one_device"):
        distribution = make_distribution(name)
        assert distribution.describe() == "one device"
        assert distribution.is_chief
        assert not distribution.has_static_shapes


def test_xla_comes_with_fixed_shapes():
    assert make_distribution("one_device", use_xla=True).has_static_shapes


@pytest.mark.parametrize(
    ("name", "environment", "options", "message"),
    [
        ("parameter_server", "", {}, r"Keras 3 does not support parameter servers"),
        ("mirored", "", {}, "expected one of auto, one_device, mirrored"),
        ("multi_worker", "", {}, "without TF_CONFIG in the environment"),
        ("multi_worker", "{", {}, "expected JSON with 'cluster'"),
        ("auto", '{"cluster": {}}', {}, "mm-make-tf-configs prints it"),
        ("multi_worker", config(TWO, index=2), {}, "this process is worker 2"),
        ("multi_worker", config(TWO, job="boss"), {}, "this process is boss 0"),
        ("multi_worker", config({**TWO, "ps": ["c:1"]}), {}, "1 parameter servers"),
        ("tpu", "", {}, r"found no TPU .*tensorflow-tpu"),
        ("one_device", "", {"tpu": "v3"}, "--tpu_name=v3 came with --strategy=one_dev"),
        ("mirrored", "", {"use_xla": True}, "--xla came with --strategy=mirrored"),
        ("multi_worker", "", {"use_xla": True}, "--xla came with --strategy=multi"),
    ],
)
def test_a_mistake_gets_a_message_that_helps(
    monkeypatch, name, environment, options, message
):
    monkeypatch.setenv("TF_CONFIG", environment)
    with pytest.raises(ValueError, match=message):
        make_distribution(name, **options)


def test_workers_that_do_not_come_are_named(caplog):
    with socket.create_server(("127.0.0.1", 0)) as there, socket.socket() as deaf:
        here = f"127.0.0.1:{there.getsockname()[1]}"
        deaf.bind(("127.0.0.1", 0))  # nobody else gets this port, and nobody listens
        nowhere = f"127.0.0.1:{deaf.getsockname()[1]}"
        with (
            caplog.at_level(logging.WARNING),
            missing_workers_named([here, nowhere], 0.01),
        ):
            deadline = time.monotonic() + 300
            while not caplog.records and time.monotonic() < deadline:
                time.sleep(0.01)
    assert f"Waiting for 1 of 2 workers: nobody answers at {nowhere}." in caplog.text


def test_mirrored_on_a_single_device_gives_it_the_whole_batch():
    distribution = make_distribution("mirrored")
    signature = {"x": tf.TensorSpec([None, 2])}

    def step(rows, share, factor):
        return tf.reduce_sum(rows["x"]) * share * factor

    compiled = distribution.compile(step, signature, tf.TensorSpec([]))
    for rows in (1, 4):
        found = compiled({"x": tf.ones([rows, 2])}, tf.constant(3.0))
        assert distribution.num_replicas == 1 and float(found) == 6 * rows

import json
import logging
import socket
import threading
import time

import pytest
import tensorflow as tf

from t2t_mm.strategy import make_distribution, wait_for_workers

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
        ("multi_worker", config({"worker": ["a:1", "b"]}), {}, "expected host:port of"),
        ("multi_worker", config(TWO, index=2), {}, "this process is worker 2"),
        ("multi_worker", config(TWO, job="boss"), {}, "this process is boss 0"),
        ("multi_worker", config({**TWO, "ps": ["c:1"]}), {}, "not support parameter"),
        ("auto", config({"worker": ["a:1"], "evaluator": ["b:1"]}), {}, "'evaluator';"),
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


def free_port():
    """Gives a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def test_workers_that_do_not_come_are_named_until_they_do(caplog):
    own, late = f"127.0.0.1:{free_port()}", free_port()
    nowhere = f"127.0.0.1:{late}"
    with socket.create_server(("127.0.0.1", 0)) as there:
        here = f"127.0.0.1:{there.getsockname()[1]}"
        waiting = threading.Thread(
            target=wait_for_workers, args=(own, [here, nowhere], 0.01), daemon=True
        )
        with caplog.at_level(logging.WARNING):
            waiting.start()
            deadline = time.monotonic() + 300
            while not caplog.records and time.monotonic() < deadline:
                time.sleep(0.01)
        assert waiting.is_alive()
        with socket.create_server(("127.0.0.1", late)):
            waiting.join(300)
    assert not waiting.is_alive()
    assert f"Waiting for 1 of 3 workers: nobody answers at {nowhere}." in caplog.text


def test_workers_find_each_other_whoever_comes_first(caplog):
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    for turn in range(3):
        workers = [
            threading.Thread(
                target=wait_for_workers,
                args=(own, [one for one in addresses if one != own], 0.0),
                daemon=True,
            )
            for own in addresses[turn:] + addresses[:turn]
        ]
        listeners = []
        for worker in workers:
            worker.start()
            time.sleep(0.05)
        # What has found all goes on, and listens as TensorFlow does from then on.
        deadline = time.monotonic() + 300
        left = dict(zip(addresses[turn:] + addresses[:turn], workers, strict=True))
        while left and time.monotonic() < deadline:
            for own in [own for own, worker in left.items() if not worker.is_alive()]:
                port = int(own.rpartition(":")[2])
                listeners.append(socket.create_server(("127.0.0.1", port)))
                del left[own]
            time.sleep(0.01)
        for one in listeners:
            one.close()
        assert not left


def test_a_worker_whose_port_is_taken_says_so():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} cannot be used: .*free port"):
            wait_for_workers(f"a:{port}", [])


def test_a_worker_with_an_ipv6_address_is_found():
    try:
        there = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with there:
        waiting = threading.Thread(
            target=wait_for_workers,
            args=(f"a:{free_port()}", [f"[::1]:{there.getsockname()[1]}"]),
            daemon=True,
        )
        waiting.start()
        waiting.join(300)
    assert not waiting.is_alive()


def test_mirrored_on_a_single_device_gives_it_the_whole_batch():
    distribution = make_distribution("mirrored")
    signature = {"x": tf.TensorSpec([None, 2])}

    def step(rows, share, factor):
        return tf.reduce_sum(rows["x"]) * share * factor

    compiled = distribution.compile(step, signature, tf.TensorSpec([]))
    for rows in (1, 4):
        found = compiled({"x": tf.ones([rows, 2])}, tf.constant(3.0))
        assert distribution.num_replicas == 1 and float(found) == 6 * rows

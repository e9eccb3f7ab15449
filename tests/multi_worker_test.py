"""Two processes train together over TF_CONFIG on this machine."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from t2t_mm import checkpoint_folders
from t2t_mm.bin.mm_make_tf_configs import tf_configs
from tests.made.quick_runs import saved_values

SMALL_PROBLEMS = os.path.join(os.path.dirname(__file__), "small_problems")
STEPS = 20


def free_addresses(count):
    """Gives addresses of this machine that nobody listens on.

    Of ports that systems hand to nobody who does not ask for them by number: a worker
    takes its port seconds later.
    """
    ports = iter(random.SystemRandom().sample(range(10_000, 30_000), 1000))
    sockets = []
    while len(sockets) < count:
        with contextlib.suppress(OSError):
            sockets.append(socket.create_server(("127.0.0.1", next(ports))))
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


@pytest.fixture
def start(small_data, tmp_path):
    """Starts one or several workers; all are gone after the test."""
    processes = []

    def workers(count, run, *options, of_last=()):
        configs = tf_configs(free_addresses(count))
        started = []
        for index, config in enumerate(configs):
            arguments = [
                *(sys.executable, "-m", "t2t_mm.bin.mm_trainer"),
                "--problem=small_reverse",
                "--model=transformer",
                "--hparams_set=transformer_tiny",
                "--hparams=hidden_size=8,filter_size=8,num_heads=2,dropout=0.0,"
                "num_encoder_layers=1,num_decoder_layers=1",
                f"--data_dir={small_data}",
                f"--t2t_usr_dir={SMALL_PROBLEMS}",
                f"--output_dir={tmp_path / run}",
                "--log_frequency=1",
                "--eval_examples=2",
                *options,
                *(of_last if index == count - 1 else ()),
            ]
            environment = dict(os.environ)
            environment.pop("TF_CONFIG", None)
            if count > 1:
                environment["TF_CONFIG"] = json.dumps(config)
            log = open(tmp_path / f"{run}-{index}.log", "w")  # noqa: SIM115
            with log:
                started.append(
                    subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)
                )
        processes.extend(started)
        return started

    yield workers
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def output_of(tmp_path, run, index):
    return (tmp_path / f"{run}-{index}.log").read_text()


def wait_for_step(run_dir, step, workers):
    """Waits until a run has trained a step; fails if a worker ends before."""
    path = run_dir / "metrics.jsonl"
    while not (path.exists() and f'{{"step": {step},' in path.read_text()):
        assert all(worker.poll() is None for worker in workers), "a worker has ended"
        time.sleep(0.1)


def check_all_ended_well(workers, tmp_path, run):
    for index, worker in enumerate(workers):
        assert worker.wait() == 0, output_of(tmp_path, run, index)


def test_workers_with_different_settings_say_which(start, tmp_path):
    """Each alone would train on, and their sum would be the network of neither."""
    other = ("--random_seed=7", "--log_frequency=2")
    workers = start(2, "apart", "--train_steps=4", of_last=other)
    for index, worker in enumerate(workers):
        assert worker.wait() == 2, output_of(tmp_path, "apart", index)
        message = "different settings: random_seed, log_frequency. Expected the same"
        assert message in output_of(tmp_path, "apart", index)
    assert not (tmp_path / "apart").exists()


def test_two_workers_learn_what_one_learns_and_a_lost_one_is_said_at_once(
    start, tmp_path
):
    options = (f"--train_steps={STEPS}", "--eval_frequency=10")
    check_all_ended_well(start(1, "alone", *options), tmp_path, "alone")
    check_all_ended_well(start(2, "both", *options), tmp_path, "both")
    assert "2 replicas on 2 workers" in output_of(tmp_path, "both", 0)
    expected, found = (saved_values(tmp_path / run) for run in ("alone", "both"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key.startswith(("model", "optimizer")):
            np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)
    for run in ("alone", "both"):
        text = (tmp_path / run / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        steps = [line["step"] for line in lines if line["kind"] == "train"]
        assert steps == list(range(1, STEPS + 1)), "one worker alone writes the log"

    endless = ("--train_steps=100000", "--eval_frequency=10")
    chief, other = start(2, "both", *endless)
    wait_for_step(tmp_path / "both", STEPS + 12, [chief, other])
    other.send_signal(signal.SIGKILL)
    lost_at = time.monotonic()
    assert chief.wait() == 2, output_of(tmp_path, "both", 0)
    assert time.monotonic() - lost_at < 60
    message = output_of(tmp_path, "both", 0)
    assert f"from step {STEPS} to 100000" in message
    assert "Another worker of this run is gone" in message
    assert "start all workers again with the same commands" in message
    assert "Traceback" not in message
    newest = checkpoint_folders.newest_checkpoint(str(tmp_path / "both"))
    step = int(newest.rpartition("-")[2])
    assert step >= STEPS + 10

    chief, other = start(2, "both", *endless)
    wait_for_step(tmp_path / "both", step + 15, [chief, other])
    assert f"from step {step} to 100000" in output_of(tmp_path, "both", 0)
    other.send_signal(signal.SIGTERM)
    # Both end as one that got it, so that whatever starts runs again starts both.
    for index, worker in enumerate((chief, other)):
        code = 128 + signal.SIGTERM
        assert worker.wait() == code, output_of(tmp_path, "both", index)
    assert "Run the same command again to go on" in output_of(tmp_path, "both", 0)

"""A run that was stopped goes on as if it had not been; kills: `killed_runs_test`."""

import os
import signal

import numpy as np

from t2t_mm import checkpoint_folders, trainer, training_log
from tests.made.quick_runs import (
    check_equal_runs,
    lines_of,
    saved_values,
)


def test_going_on_equals_never_having_stopped(
    train_quickly, tmp_path, constant_evaluation
):
    train_quickly("whole")
    train_quickly("parts", train_steps=3)
    train_quickly("parts")
    check_equal_runs(str(tmp_path / "whole"), str(tmp_path / "parts"))


def test_going_on_is_exact_with_every_state_of_optimisation(
    train_quickly, tmp_path, constant_evaluation
):
    hparams = "ema_decay=0.9,loss_balancing=true,gradient_accumulation=2"
    hparams += ",gradient_conflicts=project,optimizer=adafactor"
    train_quickly("whole", hparams=hparams)
    train_quickly("parts", hparams=hparams, train_steps=3)
    train_quickly("parts", hparams=hparams)
    check_equal_runs(str(tmp_path / "whole"), str(tmp_path / "parts"))
    values = saved_values(str(tmp_path / "whole"))
    kept = [key for key in values if key.startswith("average")]
    moved = [
        key
        for key in kept
        if (values[key] != values[key.replace("average", "model", 1)]).any()
    ]
    assert kept, "the moving averages are saved"
    assert moved, "they lag behind the weights"


def press_at(monkeypatch, step):
    """Sends Ctrl-C to this process when a step is recorded."""
    record = training_log.TrainingLog.record

    def record_and_press(self, at, *rest):
        record(self, at, *rest)
        if at == step:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training_log.TrainingLog, "record", record_and_press)


def test_ctrl_c_saves_and_the_same_call_goes_on(
    train_quickly, tmp_path, monkeypatch, cheap_evaluation
):
    train_quickly("whole", log_frequency=1)
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        result = train_quickly("parts", log_frequency=1)
    assert (result.step, result.signal) == (5, signal.SIGINT)
    assert checkpoint_folders.newest_checkpoint(str(tmp_path / "parts")).endswith(
        "ckpt-5"
    )
    train_quickly("parts", log_frequency=1)
    expected = saved_values(tmp_path / "whole")
    found = saved_values(tmp_path / "parts")
    for key in expected:
        if key.startswith(("model", "optimizer")):
            np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


def test_a_signal_to_another_worker_ends_this_one_alike(
    train_quickly, tmp_path, monkeypatch, cheap_evaluation
):
    def anybody(run, flag):
        return flag or run.state.step == 5

    monkeypatch.setattr(trainer._Run, "_anybody", anybody)
    result = train_quickly()
    assert (result.step, result.signal) == (5, signal.SIGTERM)
    assert checkpoint_folders.newest_checkpoint(str(tmp_path / "run")).endswith(
        "ckpt-5"
    )


def test_ctrl_c_before_an_evaluation_leaves_it_to_the_next_call(
    train_quickly, tmp_path, monkeypatch, cheap_evaluation
):
    with monkeypatch.context() as patch:
        press_at(patch, 3)
        assert train_quickly().step == 3
    assert cheap_evaluation == []
    train_quickly(train_steps=4)
    steps = [line["step"] for line in lines_of(tmp_path / "run", "eval")]
    assert steps == [3, 3, 4, 4]

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.train_step import NUMBERS
from t2t_mm.training_log import TrainingLog, trim_lines


def output(use, *, balance_loss, dropped):
    """What a step gives, with one layer of experts."""
    statistics = {
        "use": tf.constant(use),
        "unused": tf.constant(0.0),
        "balance_loss": tf.constant(balance_loss),
        "dropped": tf.constant(dropped),
    }
    return tf.ones([len(NUMBERS)]), {"encoder_experts": statistics}


def test_the_log_says_by_layer_and_problem_how_experts_were_used(tmp_path):
    with TrainingLog(
        str(tmp_path), step=0, evaluated_step=-1, train_steps=3, progress=False
    ) as log:
        log.record(1, "copy", 0.1, output([0.5, 0.5, 0], balance_loss=1.0, dropped=0.0))
        log.record(2, "copy", 0.1, output([0.7, 0.3, 0], balance_loss=3.0, dropped=0.5))
        log.record(3, "sort", 0.1, output([0, 0.1, 0.9], balance_loss=2.0, dropped=0.0))
        log.write_training(0.001)
        log.write_expert_use(3)
        log.write_expert_use(3)  # nothing new since
    with open(os.path.join(tmp_path, "metrics.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    copy, sort = [line for line in lines if line["kind"] == "expert_use"]
    assert (copy["problem"], copy["layer"]) == ("copy", "encoder_experts")
    assert copy["use"] == pytest.approx([0.6, 0.4, 0.0])
    assert (copy["dead"], sort["dead"]) == (1, 1)
    assert copy["largest"] == pytest.approx(0.6)
    assert copy["balance_loss"] == pytest.approx(2.0)
    assert copy["dropped"] == pytest.approx(0.25)
    assert sort["use"] == pytest.approx([0.0, 0.1, 0.9])


def test_what_is_kept_of_experts_does_not_grow_with_the_steps(tmp_path):
    """A run may train for weeks without an evaluation."""
    with TrainingLog(
        str(tmp_path), step=0, evaluated_step=-1, train_steps=99, progress=False
    ) as log:
        for step in range(1, 100):
            some = output([0.5, 0.5, 0], balance_loss=1.0, dropped=0.0)
            log.record(step, "copy", 0.1, some)
            log.write_training(0.001)
            (kept,) = log._experts.values()
            assert sorted(kept) == ["balance_loss", "dropped", "steps", "use"]
            assert kept["steps"] == step and np.size(kept["use"]) == 3


def test_a_worker_that_writes_nothing_keeps_nothing_of_experts(tmp_path):
    settings = {"step": 0, "evaluated_step": -1, "train_steps": 9}
    with TrainingLog(str(tmp_path), is_writer=False, **settings) as log:
        log.record(1, "copy", 0.1, output([0.5, 0.5], balance_loss=1.0, dropped=0.0))
        log.write_training(0.001)
        assert not log._experts
    assert not list(tmp_path.iterdir())


def test_lines_that_are_written_again_are_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    kinds = ("train", "expert_use", "eval")
    lines = [
        json.dumps({"step": step, "kind": kind}) + "\n"
        for step in (2, 4, 6)
        for kind in kinds
    ]
    path.write_text("".join(lines) + '{"step": 4, "ki')
    trim_lines(str(path), step=4, evaluated_step=2)
    assert path.read_text() == "".join(lines[:5])


def test_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kind": "train"}\n\n \n{"step": 2, "kind": "eval"}\n')
    trim_lines(str(path), step=4, evaluated_step=2)
    assert [line[:9] for line in path.read_text().splitlines()] == [
        '{"step": ',
        '{"step": ',
    ]


@pytest.mark.parametrize("line", ["\0\0\0", "[]", '{"step": 3}'])
def test_a_line_of_a_run_that_cannot_be_read_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kind": "train"}\n' + line + "\n")
    with pytest.raises(
        ValueError, match=f"^{path} cannot be read: line 2 .* Expected .* Remove the l"
    ):
        trim_lines(str(path), step=4, evaluated_step=2)

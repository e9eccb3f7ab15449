"""Reading back what a run wrote, whole or broken off."""

import json

import pytest

from t2t_mm import run_history


def write(folder, name, content):
    (folder / name).write_text(
        content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
    )


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def train(step, loss, problem="p"):
    return {"step": step, "kind": "train", "problem": problem, "loss": loss}


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither metrics.jsonl nor eval.json"):
        run_history.read_history(str(tmp_path))


def test_a_curve_rises_in_steps_and_leaves_out_what_is_not_finite(tmp_path):
    text = lines(train(5, 2.0), train(3, 4.0), train(7, None)) + (
        '{"step": 9, "kind": "train", "problem": "p", "loss": NaN}\n'
    )
    write(tmp_path, "metrics.jsonl", text)
    curve = run_history.read_history(str(tmp_path)).curve("train", "p", "loss")
    assert (curve.steps, curve.values) == ((3, 5), (4.0, 2.0))


def test_a_curve_of_a_nested_value_and_of_a_missing_one(tmp_path):
    record = {"step": 3, "kind": "eval", "problem": "p", "metrics": {"bleu": 7}}
    write(tmp_path, "metrics.jsonl", lines(record))
    history = run_history.read_history(str(tmp_path))
    assert history.curve("eval", "p", "metrics", "bleu").values == (7.0,)
    assert not history.curve("eval", "p", "metrics", "wer")
    assert not history.curve("eval", "p", "metrics", "bleu", "deeper")


def test_a_step_that_was_trained_twice_counts_once(tmp_path):
    write(tmp_path, "metrics.jsonl", lines(train(3, 2.0), train(5, 1.0), train(3, 1.5)))
    history = run_history.read_history(str(tmp_path))
    assert history.curve("train", "p", "loss").values == (1.5, 1.0)


def test_a_last_line_that_was_cut_off_is_passed_over(tmp_path):
    write(tmp_path, "metrics.jsonl", lines(train(3, 2.0)) + '{"step": 5, "ki')
    assert run_history.read_history(str(tmp_path)).last_step() == 3


@pytest.mark.parametrize("broken", ["{", "[]", '{"kind": "train"}'])
def test_a_broken_line_before_the_end_is_refused(tmp_path, broken):
    write(tmp_path, "metrics.jsonl", broken + "\n" + lines(train(3, 2.0)))
    with pytest.raises(ValueError, match="line 1"):
        run_history.read_history(str(tmp_path))


@pytest.mark.parametrize("broken", ["{", "[]"])
def test_a_broken_json_file_is_refused(tmp_path, broken):
    write(tmp_path, "metrics.jsonl", lines(train(3, 2.0)))
    write(tmp_path, "eval.json", broken)
    with pytest.raises(ValueError, match="eval.json cannot be read"):
        run_history.read_history(str(tmp_path))


def test_problems_come_in_the_order_of_the_run(tmp_path):
    write(tmp_path, "metrics.jsonl", lines(train(3, 2.0, "c"), train(3, 2.0, "a")))
    write(tmp_path, "run.json", {"problems": ["b", "a"]})
    assert run_history.read_history(str(tmp_path)).problems() == ["b", "a", "c"]


def test_training_time_is_summed_where_it_is_known(tmp_path):
    write(tmp_path, "metrics.jsonl", lines(train(3, 2.0), train(5, 1.0)))
    assert run_history.read_history(str(tmp_path)).training_seconds() is None
    timed = [train(3, 2.0) | {"seconds": 1.5}, train(5, 1.0) | {"seconds": 2}]
    write(tmp_path, "metrics.jsonl", lines(*timed))
    assert run_history.read_history(str(tmp_path)).training_seconds() == 3.5

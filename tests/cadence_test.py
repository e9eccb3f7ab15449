import json
import math

import pytest

from t2t_mm.bin import command
from t2t_mm.cadence import (
    Cadence,
    Patience,
    Watched,
    make_patience,
    refuse_in_vain,
)
from t2t_mm.mixture import get_problems, parse_problems
from t2t_mm.registry import UnknownNameError

TWO = "translate_ende_home,speech_prompts"


@pytest.fixture
def problems():
    command.load_zoo()
    return get_problems(parse_problems(TWO))


def evaluation(loss, bleu, wer):
    return {
        "translate_ende_home": {
            "loss": loss,
            "accuracy": 0.5,
            "metrics": {"bleu": bleu, "chrf": 1.0},
        },
        "speech_prompts": {"loss": 3.0, "accuracy": 0.1, "metrics": {"wer": wer}},
    }


@pytest.mark.parametrize(
    ("metric", "value", "is_higher_better"),
    [
        ("loss", 2.0, False),
        ("accuracy", 0.3, True),
        ("bleu", 12.0, True),
        ("wer", 0.7, False),
        ("speech_prompts/loss", 3.0, False),
        ("translate_ende_home/accuracy", 0.5, True),
    ],
)
def test_a_metric_knows_its_problems_and_its_direction(
    problems, metric, value, is_higher_better
):
    watched = Watched(metric, problems)
    assert watched.value(evaluation(1.0, 12.0, 0.7)) == pytest.approx(value)
    assert watched.is_higher_better == is_higher_better
    assert watched.is_better(2.0, 1.0) == is_higher_better
    assert not watched.is_better(1.0, 1.0)


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        ("blue", UnknownNameError, "bleu"),
        ("top5", ValueError, "is of no problem of this run"),
        ("speech_prompts/bleu", ValueError, "is of no problem of this run"),
        ("/loss", ValueError, "is of problem ''; this run trains translate_ende_home"),
        ("other/bleu", ValueError, "this run trains translate_ende_home, speech"),
    ],
)
def test_a_metric_that_no_problem_has_is_refused(problems, metric, error, message):
    with pytest.raises(error, match=message):
        Watched(metric, problems)


def write_history(folder, values):
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step, bleu in values:
            for name, result in evaluation(1.0, bleu, 0.5).items():
                head = {"step": step, "kind": "eval", "problem": name, "split": "dev"}
                file.write(json.dumps(head | result) + "\n")
            file.write(json.dumps({"step": step, "kind": "train"}) + "\n")


def test_the_history_is_what_the_log_says(problems, tmp_path):
    watched = Watched("bleu", problems)
    assert watched.history(str(tmp_path), "dev", before=100) == []
    write_history(tmp_path, [(10, 3.0), (20, 5.0), (30, 4.0)])
    assert watched.history(str(tmp_path), "dev", before=30) == [(10, 3.0), (20, 5.0)]
    assert watched.history(str(tmp_path), "test", before=100) == []
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        line = {"step": 40, "kind": "eval", "split": "dev", "problem": "speech_prompts"}
        file.write(json.dumps(line) + "\n")
    found = watched.history(str(tmp_path), "dev", before=100)
    assert [step for step, _ in found] == [10, 20, 30], "an evaluation counts whole"


def test_the_best_beats_all_before_it(problems):
    history = [(10, 3.0), (20, 5.0), (30, 4.0)]
    for metric, best, other in (("bleu", 5.1, 5.0), ("wer", 2.9, 3.0)):
        watched = Watched(metric, problems)
        assert watched.is_best(best, history)
        assert not watched.is_best(other, history)
        assert watched.is_best(other, [])


def test_patience_ends_when_nothing_got_better_for_long_enough(problems):
    bleu = Watched("bleu", problems)
    history = [(10, 3.0), (20, 5.0), (30, 4.0), (40, 5.0)]
    assert Patience(bleu, 20, 0.0).is_over(history)
    assert not Patience(bleu, 21, 0.0).is_over(history)
    assert not Patience(bleu, 20, 0.0).is_over([*history, (50, 5.1)])
    assert Patience(bleu, 20, 0.2).is_over([*history, (50, 5.1)])
    assert not Patience(bleu, 20, 0.0).is_over([])
    falling = Watched("loss", problems)
    assert not Patience(falling, 10, 0.0).is_over([(10, 3.0), (20, 2.0)])
    assert Patience(falling, 10, 0.0).is_over([(10, 2.0), (20, 3.0)])


@pytest.mark.parametrize(("steps", "delta"), [(0, 0.0), (5, -0.1), (5, math.nan)])
def test_impatience_is_refused(problems, steps, delta):
    with pytest.raises(ValueError, match="--eval_early_stopping_steps"):
        Patience(Watched("loss", problems), steps, delta)


def test_patience_needs_to_know_how_long(problems):
    assert make_patience(problems, None, metric="loss", delta=0.0) is None
    patience = make_patience(problems, 5, metric="bleu", delta=0.1)
    assert (patience.watched.metric, patience.steps, patience.delta) == ("bleu", 5, 0.1)
    for metric, delta in (("bleu", 0.0), ("loss", 0.1)):
        with pytest.raises(ValueError, match="Add --eval_early_stopping_steps, or l"):
            make_patience(problems, None, metric=metric, delta=delta)


def test_evaluations_that_are_never_made_cannot_be_watched(problems):
    never = Cadence(8, 3, None, 2, None, evaluates=False)
    loss, bleu = (Watched(metric, problems) for metric in ("loss", "bleu"))
    refuse_in_vain(never, loss, None)
    refuse_in_vain(Cadence(8, 3, None, 2, None), bleu, Patience(bleu, 3, 0.0))
    for best, patience in ((bleu, None), (loss, Patience(bleu, 3, 0.0))):
        with pytest.raises(ValueError, match="metric 'bleu' to watch; .*--schedule=tr"):
            refuse_in_vain(never, best, patience)


def test_a_loss_that_is_no_number_is_beaten_by_every_other(problems):
    for metric in ("loss", "bleu"):
        watched = Watched(metric, problems)
        history = [(10, math.nan), (20, 5.0)]
        assert watched.is_best(5.0, history[:1])
        assert not watched.is_best(math.nan, history)
        assert not Patience(watched, 10, 0.0).is_over(history)


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(minutes):
    with pytest.raises(ValueError, match="max_minutes is .*; expected a time above 0"):
        Cadence(8, 3, None, 2, minutes)


@pytest.mark.parametrize("number", [0, -1])
def test_an_evaluation_of_nothing_is_refused(number):
    """As `train(eval_examples=0)` in Python; the flag's 0 is None here."""
    with pytest.raises(ValueError, match=f"eval_examples is {number}; expected 1 or m"):
        Cadence(8, 3, number, 2, None)


def test_evaluations_come_at_multiples_and_at_the_end():
    cadence = Cadence(8, 3, None, 2, None)
    assert [s for s in range(9) if cadence.is_evaluation(s)] == [3, 6, 8]
    assert [s for s in range(1, 9) if cadence.is_log(s)] == [2, 3, 4, 6, 8]
    at_the_end = Cadence(8, 0, None, 5, None)
    assert [s for s in range(9) if at_the_end.is_evaluation(s)] == [8]

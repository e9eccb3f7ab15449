import dataclasses
import math

import pytest
import tensorflow as tf

from t2t_mm import schedules
from t2t_mm.configuration import HParams
from t2t_mm.registry import UnknownNameError

HPARAMS = HParams(
    hidden_size=64,
    learning_rate=0.5,
    warmup_steps=10,
    decay_steps=110,
)


def rates(schedule, steps, **changes):
    hparams = dataclasses.replace(HPARAMS, schedule=schedule, **changes)
    rate = schedules.make_schedule(hparams, train_steps=210)
    return [float(rate(step)) for step in steps]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {1: 0.5, 10: 0.5, 1000: 0.5}),
        ("constant*linear_warmup", {1: 0.05, 5: 0.25, 10: 0.5, 11: 0.5}),
        (
            "constant*linear_warmup*rsqrt_decay",
            {1: 0.05, 10: 0.5, 40: 0.25, 1000: 0.05},
        ),
        ("constant*linear_decay", {1: 0.5, 10: 0.5, 60: 0.25, 110: 0.0, 111: 0.0}),
        ("constant*cosine_decay", {10: 0.5, 60: 0.25, 110: 0.0, 500: 0.0}),
        ("constant*exp_decay", {10: 0.5, 60: 0.05, 110: 0.005, 500: 0.005}),
        ("constant*rsqrt_hidden_size", {1: 0.0625, 100: 0.0625}),
        ("noam", {1: 0.0625 * 10**-1.5, 10: 0.0625 * 10**-0.5, 40: 0.0625 * 40**-0.5}),
    ],
)
def test_a_schedule_gives_these_rates(schedule, expected):
    assert rates(schedule, expected) == pytest.approx(list(expected.values()), abs=1e-7)


def test_decays_end_with_training_where_the_set_does_not_say_when():
    assert rates("constant*linear_decay", [110, 210], decay_steps=0) == [0.25, 0.0]


def test_a_schedule_without_warm_up_starts_at_its_peak():
    schedule = "constant*linear_warmup*rsqrt_decay"
    assert rates(schedule, [1, 4], warmup_steps=0) == [0.5, 0.25]


def test_a_schedule_computes_the_same_in_a_graph():
    hparams = dataclasses.replace(
        HPARAMS, schedule="constant*linear_warmup*cosine_decay"
    )
    rate = schedules.make_schedule(hparams, 210)
    compiled = tf.function(rate)
    for step in (1, 7, 60):
        assert float(compiled(tf.constant(step, tf.int64))) == float(rate(step))


def test_keras_counts_updates_from_zero_and_schedules_from_one():
    rate = schedules.make_schedule(
        dataclasses.replace(HPARAMS, schedule="constant*linear_warmup"), 210
    )
    adapted = schedules.OptimizerSchedule(rate)
    assert math.isclose(float(adapted(tf.constant(0, tf.int64))), 0.05, rel_tol=1e-6)
    with pytest.raises(TypeError, match=r"expected to find it in the run's hparams"):
        adapted.get_config()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("constant*linear_warmpu", "called 'linear_warmpu'.*Nearest: linear_warmup"),
        ("constant*cosdecay", "Use cosine_decay"),
        ("legacy", "Use noam"),
        ("rsqrt_normalized_decay", "Use rsqrt_decay, which is normalised here"),
    ],
)
def test_an_unknown_factor_is_refused_with_what_to_write(schedule, message):
    with pytest.raises(UnknownNameError, match=message):
        schedules.parse_schedule(schedule)


def test_a_decay_that_ends_before_it_begins_is_refused():
    short = HParams(schedule="constant*cosine_decay", warmup_steps=100, decay_steps=100)
    with pytest.raises(ValueError, match=r"decay_steps=100 came with warmup_steps=100"):
        schedules.make_schedule(short, 500)
    unread = HParams(schedule="noam", warmup_steps=100, decay_steps=50)
    assert float(schedules.make_schedule(unread, 500)(200)) > 0


@pytest.mark.parametrize("schedule", ["", " * ", "constant*", "constant**noam"])
def test_an_empty_factor_is_refused(schedule):
    with pytest.raises(ValueError, match=r"'; expected factors joined by \*"):
        schedules.parse_schedule(schedule)

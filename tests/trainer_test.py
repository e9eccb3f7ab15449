import os

import gin
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm import configuration, preparation, run_settings, trainer
from t2t_mm.mixture import draw_problem
from t2t_mm.training_log import TrainingDivergedError
from tests.made.quick_runs import QUICK_NAMES, lines_of, saved_values


def test_each_step_trains_the_problem_that_was_drawn(
    train_quickly, tmp_path, cheap_evaluation
):
    result = train_quickly(log_frequency=1)
    assert (result.step, result.signal) == (8, None)
    rates = {"quick_reverse": 0.5, "quick_copy": 0.5}
    drawn = [draw_problem(1, step, rates) for step in range(8)]
    assert len(set(drawn)) == 2
    assert [line["problem"] for line in lines_of(tmp_path / "run", "train")] == drawn


def test_evaluation_comes_at_each_multiple_and_at_the_end(
    train_quickly, tmp_path, cheap_evaluation, capsys
):
    train_quickly(eval_frequency=3, eval_examples=7)
    names = QUICK_NAMES
    assert cheap_evaluation == [(name, "dev", 7) for name in names] * 3
    steps = [line["step"] for line in lines_of(tmp_path / "run", "eval")]
    assert steps == [3, 3, 6, 6, 8, 8]
    train_quickly(eval_frequency=3, progress=True)
    assert len(cheap_evaluation) == 6, "a finished run is not evaluated again"
    assert "Nothing is left to train: raise --train_steps" in capsys.readouterr().out
    train_quickly(eval_frequency=0, train_steps=10)
    assert [line["step"] for line in lines_of(tmp_path / "run", "eval")][6:] == [10, 10]


def test_a_run_writes_what_later_commands_read(
    train_quickly, tmp_path, cheap_evaluation
):
    train_quickly(rates="equal")
    run_dir = str(tmp_path / "run")
    record = run_settings.load_run_record(run_dir)
    assert record["model"] == "quick_bag"
    assert record["problems"] == QUICK_NAMES
    assert record["rates"] == {"quick_reverse": 0.5, "quick_copy": 0.5}
    assert record["random_seed"] == 1
    assert set(record["vocabularies"]) == {"bytes"}
    hparams, named_set = configuration.load_hparams(run_dir)
    assert (hparams.hidden_size, named_set) == (8, "quick_tiny")
    assert os.path.exists(tmp_path / "run" / "operative_config.gin")
    assert any("tfevents" in name for name in os.listdir(run_dir))
    line = lines_of(run_dir, "train")[0]
    assert set(line) == {
        *("step", "kind", "problem", "loss", "accuracy", "auxiliary_loss", "steps"),
        *("gradient_norm", "padding", "learning_rate"),
    }
    assert 0 <= line["padding"] < 1
    best = os.listdir(tmp_path / "run" / "best")
    assert "ckpt-8.index" in best


def test_going_on_needs_no_more_than_the_folder(
    train_quickly, tmp_path, cheap_evaluation
):
    train_quickly(train_steps=3, random_seed=5)
    result = trainer.train(
        output_dir=str(tmp_path / "run"), train_steps=4, progress=False
    )
    assert result.step == 4
    assert run_settings.load_run_record(str(tmp_path / "run"))["random_seed"] == 5


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(
    train_quickly, tmp_path, cheap_evaluation
):
    train_quickly(train_steps=3)
    values = saved_values(tmp_path / "run")
    state_of = preparation.make_state

    def made_infinite(*arguments):
        state = state_of(*arguments)
        step = state.model.losses_of

        def losses_of(name, batch, training, token):
            losses = step(name, batch, training=training, token=token)
            is_late = state.optimizer.iterations.value > 4
            poison = tf.where(is_late, np.float32("nan"), 0.0)
            return losses | {"loss_sum": losses["loss_sum"] + poison}

        state.model.losses_of = losses_of
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "make_state", made_infinite)
        with pytest.raises(
            TrainingDivergedError,
            match=r"'quick_\w+' gave loss nan .* at step 6; .*last checkpoint is .*-3",
        ):
            train_quickly(train_steps=8, eval_frequency=7, log_frequency=7)
    for key, value in saved_values(tmp_path / "run").items():
        np.testing.assert_array_equal(value, values[key])


def test_gin_sets_the_cadence_and_an_unused_binding_is_refused(
    train_quickly, tmp_path, cheap_evaluation
):
    settings = {"eval_frequency": 4}
    try:
        configuration.parse_gin([], ["train.eval_examples = 3"])
        train_quickly(train_steps=1, **settings)
        assert {limit for _, _, limit in cheap_evaluation} == {3}
        configuration.parse_gin([], ["train.eval_frequency = 2"])
        with pytest.raises(ValueError, match="gin bindings train.eval_frequency"):
            train_quickly("other", **settings)
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hparams": "gradient_conflicts=project"}, "Set gradient_accumulation=2"),
        ({"hparams": "loss_weights=((nobody,1.0),)"}, "expected problems of the run"),
        ({"hparams": "max_length=1"}, "Every training example of problem 'quick_rever"),
        ({"keep_checkpoint_max": 0}, "keep_checkpoint_max is 0; expected 1 or more"),
        ({"warm_start_from": "nowhere"}, "nowhere is neither a run with a checkpoint"),
        ({"random_seed": 2**32}, "random_seed is 4294967296; expected 0 to 4294967295"),
        ({"max_minutes": 0.0}, "max_minutes is 0; expected a time above 0"),
    ],
)
def test_what_is_refused_leaves_no_run_behind(
    train_quickly, tmp_path, changes, message
):
    with pytest.raises(ValueError, match=message):
        train_quickly(**changes)
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_argument_of_another_type_is_refused(train_quickly):
    with pytest.raises(
        TypeError, match=r"train_steps came as '8' \(str\); expected int"
    ):
        train_quickly(train_steps="8")
    with pytest.raises(TypeError, match=r"hparams came as 3; expected a text such as"):
        train_quickly(hparams=3)
    with pytest.raises(ValueError, match=r"output_dir came empty; expected a folder"):
        train_quickly(output_dir="")

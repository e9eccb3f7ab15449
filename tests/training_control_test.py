"""Control of a run: --check, --profile, when to stop, callbacks, warm start."""

import glob
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm import (
    accumulation,
    averages,
    checkpoint_folders,
    checkpoints,
    trainer,
    warm_start,
)
from t2t_mm.distribution import Distribution
from tests.made.controlled_runs import TINY

EXPERTS = (
    "hidden_size=8,num_heads=2,num_experts=3,expert_size=7,encoder_blocks=1,"
    "mixer_blocks=0,kernels=(3,3,3,3),dilations=(1,1,1,1)"
)


def weights_of(path):
    reader = tf.train.load_checkpoint(path)
    names = checkpoints.saved_names(path, only="model/")
    return {name: reader.get_tensor(key) for name, key in names.items()}


def test_a_check_tries_everything_and_leaves_nothing(train, tmp_path, capsys):
    result = train(check=True)
    assert result.step == 2
    assert not os.path.exists(tmp_path / "run")
    text = capsys.readouterr().out
    for part in (
        "parameters that are trained",
        "the optimizer's state",
        "target tokens, loss",
        "small_reverse: 4 dev examples",
        "A checkpoint takes",
        "All is well.",
    ):
        assert part in text


def test_a_check_makes_whole_updates_and_their_averages(train, monkeypatch, capsys):
    made = []
    apply = accumulation.Accumulator.apply
    monkeypatch.setattr(
        accumulation.Accumulator, "apply", lambda self: made.append(1) or apply(self)
    )
    update = averages.Averages.update
    monkeypatch.setattr(
        averages.Averages,
        "update",
        lambda self, step, *rest: made.append(step) or update(self, step, *rest),
    )
    train(check=True, hparams=f"{TINY},gradient_accumulation=3,ema_decay=0.9")
    assert made == [1, 1, 1, 2]
    assert "All is well." in capsys.readouterr().out


def test_a_check_of_another_worker_than_the_chief_ends_well(train, capsys, monkeypatch):
    worker = Distribution()
    worker.is_chief = False
    monkeypatch.setattr(trainer, "make_distribution", lambda *_, **__: worker)
    assert train(check=True).step == 2
    text = capsys.readouterr().out
    assert "All is well." in text and "A checkpoint takes" not in text


def test_a_profile_is_a_trace_of_some_steps(train, tmp_path, losses):
    train(profile=True, train_steps=15, eval_frequency=0)
    assert glob.glob(str(tmp_path / "run/plugins/profile/*/*.xplane.pb"))
    with pytest.raises(ValueError, match="--profile came with 1 steps to train; expec"):
        train(profile=True, train_steps=16)


def test_a_failure_ends_the_trace(train, tmp_path, losses):
    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 12:
                raise RuntimeError("this callback fails")

    settings = {"profile": True, "train_steps": 16, "eval_frequency": 0}
    with pytest.raises(RuntimeError, match="this callback fails"):
        train(callbacks=[Fail()], **settings)
    train("again", **settings)
    assert list((tmp_path / "again").glob("plugins/profile/*/*.xplane.pb"))


def test_a_trace_that_would_not_end_leaves_nothing_behind(train, tmp_path, losses):
    with pytest.raises(ValueError, match="--profile came with 14 steps to train; expe"):
        train(profile=True, train_steps=14)
    assert not (tmp_path / "run").exists()


def test_a_run_ends_when_nothing_gets_better_and_stays_ended(train, tmp_path, losses):
    losses[:] = [3.0, 2.0, 2.5, 2.4, 1.0]
    options = {"train_steps": 100, "eval_early_stopping_steps": 4}
    result = train(**options)
    assert (result.step, result.stopped_early) == (8, True)
    best = os.path.basename(glob.glob(str(tmp_path / "run/best/*.index"))[0])
    assert best == "ckpt-4.index"
    again = train(**options)
    assert (again.step, again.stopped_early) == (8, True)
    assert losses == [1.0], "nothing was evaluated again"


def test_the_best_is_by_the_metric_that_was_named(train, tmp_path, losses):
    losses[:] = [3.0, 5.0, 4.0]
    train(train_steps=6, keep_best_metric="word_f1")
    assert os.path.exists(tmp_path / "run/best/ckpt-4.index")


def test_without_evaluation_a_run_only_saves(train, tmp_path, losses):
    train(evaluate=False)
    assert checkpoint_folders.newest_checkpoint(str(tmp_path / "run")).endswith(
        "ckpt-4"
    )
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in lines} == {"train"}


def test_without_evaluation_a_run_says_how_its_experts_are_used(train, tmp_path):
    settings = {"model": "multimodel", "hparams_set": "multimodel_tiny"}
    settings |= {"hparams": EXPERTS, "evaluate": False}
    for train_steps in (2, 3):
        train(train_steps=train_steps, **settings)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    used = [one for one in records if one["kind"] == "expert_use"]
    layers = ["decoder_experts", "encoder_experts"]
    found = sorted((one["step"], one["layer"]) for one in used)
    assert found == [(step, layer) for step in (2, 3) for layer in layers]
    assert all(sum(one["use"]) == pytest.approx(1, abs=1e-4) for one in used)


def test_a_run_that_is_interrupted_says_how_its_experts_were_used(train, tmp_path):
    settings = {"model": "multimodel", "hparams_set": "multimodel_tiny"}
    train(hparams=EXPERTS, callbacks=[Stop()], evaluate=False, **settings)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert {one["step"] for one in records if one["kind"] == "expert_use"} == {1}


class Stop(keras.callbacks.Callback):
    """Asks to stop after the first step."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = True


def test_a_warm_start_takes_the_weights_and_freezing_keeps_them(
    train, tmp_path, losses, capsys
):
    train("old", train_steps=2)
    train(
        "new",
        train_steps=3,
        warm_start_from=str(tmp_path / "old"),
        freeze="text/|encoder",
        progress=True,
    )
    shown = capsys.readouterr().out
    assert "taken whole" in shown
    assert "15 variables stay as they are: text (2), encoder1 (11), encoder_" in shown
    old, new = (
        weights_of(checkpoint_folders.newest_checkpoint(str(tmp_path / run)))
        for run in ("old", "new")
    )
    kept = [name for name in old if np.array_equal(old[name], new[name])]
    moved = [name for name in old if name not in kept]
    assert kept and moved
    assert all("text/" in name or "encoder" in name for name in kept)
    assert not any("text/" in name or "encoder" in name for name in moved)


def test_averages_begin_with_the_weights_of_a_warm_start(train, tmp_path, losses):
    train("old", train_steps=2)
    hparams = f"{TINY},ema_decay=0.999,learning_rate=0.0"
    old = str(tmp_path / "old")
    train("new", train_steps=1, warm_start_from=old, hparams=hparams)
    reader = tf.train.load_checkpoint(
        checkpoint_folders.newest_checkpoint(str(tmp_path / "new"))
    )
    names = checkpoints.saved_names(
        checkpoint_folders.newest_checkpoint(str(tmp_path / "new"))
    )
    kept = [name for name in names if name.startswith("average/")]
    assert kept
    for name in kept:
        weight = names[name.replace("average/", "model/", 1)]
        average = reader.get_tensor(names[name])
        np.testing.assert_allclose(average, reader.get_tensor(weight), atol=1e-6)


def test_a_warm_start_takes_what_was_evaluated(train, tmp_path, losses, capsys):
    train("old", train_steps=2, hparams=f"{TINY},ema_decay=0.9")
    still = f"{TINY},learning_rate=0.0"
    old = str(tmp_path / "old")
    train("new", train_steps=1, warm_start_from=old, hparams=still, progress=True)
    assert "Warm start from the moving averages of" in capsys.readouterr().out
    path = checkpoint_folders.newest_checkpoint(old)
    reader, averages = tf.train.load_checkpoint(path), {}
    for name, key in checkpoints.saved_names(path, only="average/").items():
        averages[name.replace("average/", "model/", 1)] = reader.get_tensor(key)
    raw = weights_of(path)
    new = weights_of(checkpoint_folders.newest_checkpoint(str(tmp_path / "new")))
    assert averages.keys() <= raw.keys()
    assert any(not np.array_equal(averages[name], raw[name]) for name in averages)
    for name, value in averages.items():
        np.testing.assert_array_equal(new[name], value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nowhere", "finds 0 of .* variables; expected some, and not all"),
        (".", "expected some, and not all"),
        ("(", "no regular expression"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_all_is_refused(
    train, losses, pattern, message
):
    with pytest.raises(ValueError, match=message):
        train(freeze=pattern)


def test_a_warm_start_from_nowhere_is_refused(train, tmp_path, losses):
    with pytest.raises(ValueError, match="neither a run with a checkpoint nor a"):
        train(warm_start_from=str(tmp_path / "nowhere"))


def test_a_warm_start_of_which_nothing_fits_is_refused(train, tmp_path, losses):
    train("old", train_steps=2)
    with pytest.raises(
        ValueError,
        match=r"Nothing of .*ckpt-2 fits the new model; .* Its weights are like "
        r"transformer/\w+/.* \[.*\]. Use its --model and --hparams_set, or leave",
    ):
        train(
            "new",
            warm_start_from=str(tmp_path / "old"),
            model="multimodel",
            hparams_set="multimodel_tiny",
            hparams="",
        )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("is_there", [True, False], ids=["cut off", "gone"])
def test_a_warm_start_from_a_damaged_checkpoint_is_refused(
    train, tmp_path, losses, is_there
):
    train("old", train_steps=2)
    (values,) = (tmp_path / "old/checkpoints").glob("*.data-*")
    values.unlink()
    if is_there:
        values.write_bytes(bytes(100))
    with pytest.raises(ValueError, match="ckpt-2 cannot be read: .* Expected a whole"):
        train("new", warm_start_from=str(tmp_path / "old"))
    assert not (tmp_path / "new").exists()


def test_a_check_tells_what_a_warm_start_takes(train, tmp_path, losses, capsys):
    train("old", train_steps=2)
    train("new", warm_start_from=str(tmp_path / "old"), check=True)
    assert "taken whole: " in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "axis"), [("text/words/embedding", 0), ("class_label/words/kernel", 1)]
)
def test_rows_follow_their_words_to_another_vocabulary(name, axis):
    before, now = ["a", "b", "c"], ["c", "x", "a", "y", "z"]
    old = np.moveaxis(np.arange(6.0).reshape(3, 2), 0, axis)
    shape = [2, 2]
    shape[axis] = 5
    variable = tf.Variable(-np.ones(shape), name=name)
    found = np.moveaxis(warm_start._remapped(old, variable, before, now), axis, 0)
    expected = [[4, 5], [-1, -1], [0, 1], [-1, -1], [-1, -1]]
    np.testing.assert_array_equal(found, expected)
    wider = tf.Variable(np.zeros([7, 7]), name=name)
    assert warm_start._remapped(old, wider, before, now) is None
    others = ["v", "w", "x", "y", "z"]
    assert warm_start._remapped(old, variable, before, others) is None


def test_the_report_names_each_kind_and_only_the_first_few():
    report = warm_start.WarmStart(matched=list("abcdefg"), new=["h"]).describe("run")
    assert report.splitlines() == [
        "Warm start from run:",
        "  7 taken whole: a, b, c, d, e, ...",
        "  1 new, made from the seed: h",
    ]

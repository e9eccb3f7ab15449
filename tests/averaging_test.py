import errno
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm import averaging, trainer
from t2t_mm.checkpoint_folders import checkpoints_of
from t2t_mm.checkpoints import saved_names
from t2t_mm.inference import load_run


def weights_of(path):
    reader = tf.train.load_checkpoint(path)
    names = saved_names(path, only="model/")
    return {name: reader.get_tensor(key) for name, key in names.items()}


@pytest.fixture
def paths(small_run):
    found = checkpoints_of(small_run)
    return [found[3], found[5]]


def test_the_mean_is_that_of_numpy(paths, tmp_path):
    written = averaging.average(paths, str(tmp_path / "mean"))
    first, second, mean = map(weights_of, (*paths, written))
    assert first.keys() == mean.keys()
    for name, value in mean.items():
        expected = (first[name].astype(np.float64) + second[name]) / 2
        assert value.dtype == first[name].dtype
        np.testing.assert_array_equal(value, expected.astype(value.dtype))
    assert any(np.any(first[name] != mean[name]) for name in mean)


def test_small_differences_survive_many_checkpoints(paths, tmp_path):
    # In float32, 1 + 2 ** -24 is 1: summed there, the difference would be lost.
    values = [1.0, 2.0**-23, 2.0**-23]
    tops = []
    for i, value in enumerate(values):
        run = tmp_path / f"run{i}"
        shutil.copytree(os.path.dirname(os.path.dirname(paths[0])), run)
        variable = tf.Variable(np.float32(value))
        manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(**{"model/x": variable}), str(run / "checkpoints"), 1
        )
        tops.append(manager.save(checkpoint_number=9))
    mean = weights_of(averaging.average(tops, str(tmp_path / "mean")))
    assert mean == {"model/x": np.float32((1.0 + 2.0**-22) / 3)}


def test_moving_averages_are_what_is_averaged(paths, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(os.path.dirname(os.path.dirname(paths[0])), run)
    values = {"model/x": 1.0, "model/y": 2.0, "average/x": 5.0}
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(**{name: tf.Variable(one) for name, one in values.items()}),
        str(run / "checkpoints"),
        1,
    )
    path = manager.save(checkpoint_number=9)
    mean = weights_of(averaging.average([path], str(tmp_path / "mean")))
    assert mean == {"model/x": 5.0, "model/y": 2.0}


def test_the_optimizer_is_left_out(paths, tmp_path):
    written = averaging.average(paths, str(tmp_path / "mean"))
    assert all(name.startswith("model/") for name in saved_names(written))
    assert any(name.startswith("optimizer/") for name in saved_names(paths[0]))


def test_the_result_is_a_run_that_answers(paths, tmp_path, small_zoo):
    folder = tmp_path / "mean"
    averaging.average(paths, str(folder))
    run = load_run(folder)
    assert run.step == 5
    assert str(run.generate("small_colours", np.zeros((5, 5), np.uint8)))
    record = json.loads((folder / "run.json").read_text())
    assert record["averaged_from"] == paths
    assert os.path.isabs(record["data_dir"])


def test_an_average_may_be_written_anew(paths, tmp_path):
    folder = str(tmp_path / "mean")
    averaging.average(paths, folder)
    averaging.average(paths[:1], folder)
    assert list(checkpoints_of(folder)) == [3]


def test_a_full_disk_leaves_the_average_that_was_there(paths, tmp_path, monkeypatch):
    folder = tmp_path / "mean"

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            averaging.average(paths, str(folder))
        assert os.listdir(tmp_path) == []
    averaging.average(paths, str(folder))
    with monkeypatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            averaging.average(paths[:1], str(folder))
    assert os.listdir(tmp_path) == ["mean"]
    assert list(checkpoints_of(str(folder))) == [5]


def test_an_average_may_be_one_of_those_that_are_averaged(paths, tmp_path):
    written = averaging.average(paths[:1], str(tmp_path / "mean"))
    expected = weights_of(averaging.average(paths, str(tmp_path / "other")))
    found = weights_of(averaging.average([written, paths[1]], str(tmp_path / "mean")))
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name])


def test_one_checkpoint_is_its_own_mean(paths, tmp_path):
    written = averaging.average([f"{paths[0]}.index"], str(tmp_path / "mean"))
    for name, value in weights_of(written).items():
        np.testing.assert_array_equal(value, weights_of(paths[0])[name])


def test_the_newest_are_found(small_run, paths):
    assert averaging.newest(small_run, 2) == paths
    assert averaging.newest(small_run, 1) == paths[1:]
    with pytest.raises(ValueError, match="has 2 checkpoints; expected 3 to average"):
        averaging.newest(small_run, 3)


def test_a_checkpoint_that_comes_twice_is_refused(paths, tmp_path):
    with pytest.raises(ValueError, match="came to be averaged; .* each once. Name"):
        averaging.average([paths[0], f"{paths[0]}.index"], str(tmp_path / "mean"))
    with pytest.raises(ValueError, match="No checkpoints came to be averaged"):
        averaging.average([], str(tmp_path / "mean"))


def test_checkpoints_of_different_networks_are_refused(paths, tmp_path):
    run = tmp_path / "other"
    shutil.copytree(os.path.dirname(os.path.dirname(paths[0])), run)
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(**{"model/x": tf.Variable([1.0])}),
        str(run / "checkpoints"),
        1,
    )
    other = manager.save(checkpoint_number=9)
    with pytest.raises(ValueError, match="are of different networks: model/.* in the"):
        averaging.average([paths[0], other], str(tmp_path / "mean"))


def test_a_folder_with_something_else_is_refused(paths, small_run, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (str(tmp_path), small_run):
        with pytest.raises(ValueError, match="holds something that is no average"):
            averaging.average(paths, folder)
    with pytest.raises(ValueError, match="file holds something that is no average"):
        averaging.average(paths, str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_broken_checkpoint_is_named(paths, tmp_path):
    run = tmp_path / "broken"
    shutil.copytree(os.path.dirname(os.path.dirname(paths[0])), run)
    broken = run / "checkpoints" / "ckpt-3"
    (run / "checkpoints" / "ckpt-3.index").write_bytes(b"no index")
    with pytest.raises(ValueError, match="Checkpoint .*ckpt-3 cannot be read"):
        averaging.average([str(broken)], str(tmp_path / "mean"))


def test_an_average_is_no_run_to_go_on_with(paths, tmp_path):
    folder = tmp_path / "mean"
    averaging.average(paths, str(folder))
    before = (folder / "run.json").read_text()
    with pytest.raises(ValueError, match=r"is an average .*--warm_start_from="):
        trainer.train(output_dir=str(folder), train_steps=8)
    assert (folder / "run.json").read_text() == before

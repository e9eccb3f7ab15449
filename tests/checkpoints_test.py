import glob
import math
import os
import pathlib
import resource

import keras
import numpy as np
import pytest

from t2t_mm import checkpoint_folders, checkpoints
from t2t_mm.fused_adam import FusedAdam
from t2t_mm.training_state import TrainingState, flat_map


class Network(keras.layers.Layer):
    """Layers in a list, where TensorFlow's own walk does not find them."""

    def __init__(self, sizes=(3, 5), **kwargs):
        super().__init__(**kwargs)
        self.parts = [
            keras.layers.Dense(size, name=f"part_{i}") for i, size in enumerate(sizes)
        ]
        self.noise = keras.random.SeedGenerator(7, name="noise")

    def build(self, input_shape=None):
        size = 2
        for part in self.parts:
            part.build((None, size))
            size = part.units


def made_state(value, sizes=(3, 5), names=("sums", "trees")):
    network = Network(sizes, name="network")
    network.build()
    optimizer = FusedAdam(0.1)
    optimizer.build(network.trainable_variables)
    for i, variable in enumerate([*network.variables, *optimizer.variables]):
        variable.assign(np.full(variable.shape, value + i))
    state = TrainingState(network, optimizer, names)
    state.step, state.evaluated_step = 10 * value, 10 * value
    state.best_loss, state.best_step = value / 2, value
    state.positions["sums"] = np.array([value, 1])
    return state


def values_of(state):
    return {name: v.numpy() for name, v in state.variables().items()}


def test_everything_comes_back(tmp_path):
    saved = made_state(4)
    checkpoints.Checkpoints(str(tmp_path), saved).save()
    restored = made_state(0)
    assert checkpoints.Checkpoints(str(tmp_path), restored).restore()
    assert (restored.step, restored.evaluated_step) == (40, 40)
    assert (restored.best_loss, restored.best_step) == (2.0, 4)
    assert list(restored.positions["sums"]) == [4, 1]
    assert list(restored.positions["trees"]) == [0, 0]
    found, expected = values_of(restored), values_of(saved)
    assert found.keys() == expected.keys()
    assert "model/random_state_0" in found
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_a_folder_without_checkpoint_restores_nothing(tmp_path):
    state = made_state(1)
    assert not checkpoints.Checkpoints(str(tmp_path), state).restore()
    assert state.step == 10
    assert checkpoint_folders.newest_checkpoint(str(tmp_path)) is None


def test_the_newest_few_and_the_best_are_kept(tmp_path):
    state = made_state(1)
    saver = checkpoints.Checkpoints(str(tmp_path), state, keep=2)
    for step in (10, 20, 30, 40):
        state.step = step
        saver.save(is_best=step == 20)
    newest = glob.glob(f"{tmp_path}/checkpoints/*.index")
    assert sorted(map(os.path.basename, newest)) == ["ckpt-30.index", "ckpt-40.index"]
    best = glob.glob(f"{tmp_path}/best/*.index")
    assert list(map(os.path.basename, best)) == ["ckpt-20.index"]
    assert checkpoint_folders.newest_checkpoint(str(tmp_path)).endswith("ckpt-40")


def test_a_kill_before_the_best_was_written_does_not_lose_it(tmp_path):
    """The newest is written first, and says that it is the best."""
    state = made_state(1)
    saver = checkpoints.Checkpoints(str(tmp_path), state)
    state.step = state.best_step = 10
    saver.save(is_best=True)
    state.step = state.best_step = 20
    saver.save(is_best=False)
    best = tmp_path / "best"
    assert [path.name for path in best.glob("*.index")] == ["ckpt-10.index"]
    reader = checkpoints.Checkpoints(str(tmp_path), made_state(0), is_writer=False)
    assert reader.restore()
    assert [path.name for path in best.glob("*.index")] == ["ckpt-10.index"]
    restored = made_state(0)
    again = checkpoints.Checkpoints(str(tmp_path), restored)
    assert again.restore()
    assert [path.name for path in best.glob("*.index")] == ["ckpt-20.index"]
    network = Network(name="network")
    network.build()
    assert checkpoints.restore_for_inference(network, str(tmp_path), "best") == 20
    # A later step that is not the best leaves it alone.
    restored.step = 30
    again.save()
    assert checkpoints.Checkpoints(str(tmp_path), made_state(0)).restore()
    assert [path.name for path in best.glob("*.index")] == ["ckpt-20.index"]


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="keep_checkpoint_max is 0; expected 1 or more"
    ):
        checkpoints.Checkpoints(str(tmp_path), made_state(1), keep=0)


def test_inference_gets_the_weights_of_the_step_it_asks_for(tmp_path):
    state = made_state(1)
    saver = checkpoints.Checkpoints(str(tmp_path), state)
    kernel = state.model.parts[0].kernel
    for step in (10, 20):
        state.step = step
        kernel.assign(np.full(kernel.shape, step))
        saver.save(is_best=step == 10)
    for asked, expected in ((None, 20), (10, 10), ("best", 10)):
        network = Network(name="network")
        network.build()
        seed = network.noise.state.numpy()
        found = checkpoints.restore_for_inference(network, str(tmp_path), asked)
        assert found == expected
        assert network.parts[0].kernel.numpy()[0, 0] == expected
        np.testing.assert_array_equal(network.noise.state.numpy(), seed)


def test_a_step_that_is_not_there_is_refused(tmp_path):
    state = made_state(1)
    checkpoints.Checkpoints(str(tmp_path), state).save()
    with pytest.raises(ValueError, match="no checkpoint of step 11; it has: 10"):
        checkpoints.restore_for_inference(state.model, str(tmp_path), 11)
    with pytest.raises(ValueError, match="train with mm-trainer first"):
        checkpoints.restore_for_inference(state.model, str(tmp_path / "none"))


def test_a_model_of_another_shape_is_refused(tmp_path):
    checkpoints.Checkpoints(str(tmp_path), made_state(1)).save()
    other = Network((3, 7), name="network")
    other.build()
    with pytest.raises(
        ValueError,
        match=r"model/network/part_1/kernel is \(3, 5\) in the checkpoint, \(3, 7\)",
    ):
        checkpoints.restore_for_inference(other, str(tmp_path))


def test_missing_and_unknown_variables_are_named(tmp_path):
    checkpoints.Checkpoints(str(tmp_path), made_state(1)).save()
    larger = made_state(1, sizes=(3, 5, 2))
    with pytest.raises(ValueError, match="part_2/kernel is not in the checkpoint"):
        checkpoints.Checkpoints(str(tmp_path), larger).restore()
    smaller = made_state(1, names=("sums",))
    with pytest.raises(ValueError, match="trainer/position/trees is not in the model"):
        checkpoints.Checkpoints(str(tmp_path), smaller).restore()


def damage(path):
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.truncate(size // 2)


def flip_a_bit(path):
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        content[len(content) // 2] ^= 1
        file.seek(0)
        file.write(content)


def two_checkpoints(tmp_path):
    state = made_state(1)
    saver = checkpoints.Checkpoints(str(tmp_path), state)
    saver.save()
    state.step = 20
    return saver.save()


@pytest.mark.parametrize("end", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("harm", [damage, flip_a_bit, os.remove])
def test_a_broken_newest_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path, caplog, end, harm
):
    path = two_checkpoints(tmp_path)
    harm(f"{path}.{end}")
    restored = made_state(2)
    saver = checkpoints.Checkpoints(str(tmp_path), restored)
    assert saver.restore()
    assert restored.step == 10
    expected = values_of(made_state(1))["model/network/part_0/kernel"]
    found = values_of(restored)["model/network/part_0/kernel"]
    np.testing.assert_array_equal(found, expected)
    assert f"Checkpoint {path} cannot be read" in caplog.text
    assert "Going on with the one of step 10" in caplog.text
    network = Network(name="network")
    network.build()
    assert checkpoints.restore_for_inference(network, str(tmp_path)) == 10
    np.testing.assert_array_equal(network.parts[0].kernel.numpy(), expected)
    # The run comes by step 20 again and replaces what was broken.
    restored.step = 20
    saver.save()
    again = made_state(3)
    assert checkpoints.Checkpoints(str(tmp_path), again).restore()
    assert again.step == 20


def test_a_broken_checkpoint_that_was_asked_for_is_refused(tmp_path):
    path = two_checkpoints(tmp_path)
    damage(f"{path}.index")
    with pytest.raises(ValueError, match=r"ckpt-20 cannot be read.*can be removed"):
        checkpoints.restore_for_inference(made_state(1).model, str(tmp_path), 20)


def test_only_broken_checkpoints_are_an_error(tmp_path):
    path = two_checkpoints(tmp_path)
    damage(f"{path}.index")
    damage(str(tmp_path / "checkpoints" / "ckpt-10.data-00000-of-00001"))
    with pytest.raises(checkpoints.BrokenCheckpointError, match="ckpt-10 cannot be"):
        checkpoints.Checkpoints(str(tmp_path), made_state(2)).restore()


def test_a_checkpoint_that_was_removed_whole_is_passed_over(tmp_path, caplog):
    path = two_checkpoints(tmp_path)
    for file in glob.glob(f"{path}.*"):
        os.remove(file)
    restored = made_state(2)
    assert checkpoints.Checkpoints(str(tmp_path), restored).restore()
    assert restored.step == 10 and not caplog.text


def test_a_run_that_lost_all_checkpoints_does_not_begin_anew(tmp_path):
    two_checkpoints(tmp_path)
    for file in glob.glob(f"{tmp_path}/checkpoints/ckpt-*"):
        os.remove(file)
    with pytest.raises(FileNotFoundError, match="ckpt-10, ckpt-20 and holds none"):
        checkpoints.Checkpoints(str(tmp_path), made_state(2)).restore()


def test_a_lost_index_of_the_folder_loses_no_checkpoint(tmp_path):
    two_checkpoints(tmp_path)
    os.remove(tmp_path / "checkpoints" / "checkpoint")
    restored = made_state(2)
    assert checkpoints.Checkpoints(str(tmp_path), restored).restore()
    assert restored.step == 20


def test_a_disk_that_fills_up_leaves_the_old_checkpoint_whole(tmp_path):
    state = made_state(1)
    saver = checkpoints.Checkpoints(str(tmp_path), state)
    path = saver.save()
    before = {file: pathlib.Path(file).read_bytes() for file in glob.glob(f"{path}.*")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    state.step = 20
    try:
        # No file may grow beyond this: to a program, a disk without room.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(OSError, match=r"of step 20 could not be.*is .*ckpt-10; ma"):
            saver.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file: pathlib.Path(file).read_bytes() for file in before} == before
    left = [name for name in os.listdir(tmp_path / "checkpoints") if "20" in name]
    assert not any(name.endswith("_temp") for name in left)
    restored = made_state(2)
    assert checkpoints.Checkpoints(str(tmp_path), restored).restore()
    assert restored.step == 10


def test_a_killed_save_leaves_nothing_that_counts(tmp_path):
    state = made_state(1)
    checkpoints.Checkpoints(str(tmp_path), state).save()
    (tmp_path / "checkpoints" / "ckpt-20_temp").mkdir()
    (tmp_path / "checkpoints" / "ckpt-20.index").write_bytes(b"half")
    restored = made_state(2)
    assert checkpoints.Checkpoints(str(tmp_path), restored).restore()
    assert restored.step == 10
    assert not (tmp_path / "checkpoints" / "ckpt-20_temp").exists()


def test_a_save_that_fails_says_which_checkpoint_is_whole(tmp_path, monkeypatch):
    import tensorflow as tf

    state = made_state(1)
    saver = checkpoints.Checkpoints(str(tmp_path), state)
    saver.save()

    def fail(*_, **__):
        message = "{{function_node x}} ckpt-20; No space left on device [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(tf.train.CheckpointManager, "save", fail)
    state.step = 20
    with pytest.raises(
        OSError, match=r": ckpt-20; No space left on device\. .*ckpt-10"
    ):
        saver.save()


def test_two_variables_of_one_name_are_refused():
    variables = [keras.Variable(1.0, name="twin"), keras.Variable(2.0, name="twin")]
    with pytest.raises(ValueError, match="Two variables are called 'model/twin'"):
        flat_map("model", variables)


def test_a_new_state_has_seen_nothing():
    state = TrainingState(made_state(1).model, made_state(1).optimizer, ["sums"])
    assert (state.step, state.evaluated_step, state.best_step) == (0, -1, -1)
    assert state.best_loss == math.inf

"""Keras callbacks in `t2t_mm.train(..., callbacks=[...])`."""

import keras
import pytest

from t2t_mm import checkpoint_folders


class Note(keras.callbacks.Callback):
    """Writes down what is called; asks to stop after a step."""

    def __init__(self, stop_after=100):
        super().__init__()
        self.calls = []
        self.stop_after = stop_after

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        assert logs["loss"] > 0
        assert self.model.optimizer.iterations.numpy() > 0
        self.calls.append(batch)
        if (
            len([call for call in self.calls if isinstance(call, int)])
            > self.stop_after
        ):
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append((epoch, logs["val_loss"], logs["val_small_reverse_word_f1"]))

    def on_train_end(self, logs=None):
        self.calls.append("end")


def test_keras_callbacks_see_steps_and_evaluations(train, tmp_path, losses):
    losses[:] = [3.0, 2.0]
    note = Note()
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    train(callbacks=[note, log])
    assert note.calls == [
        *("begin", "epoch 0", 0, 1, (0, 3.0, 3.0)),
        *("epoch 1", 0, 1, (1, 2.0, 2.0), "end"),
    ]
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss,val_loss")


def test_a_callback_may_stop_a_run_which_is_saved(train, tmp_path, losses):
    result = train(callbacks=[Note(stop_after=2)], train_steps=50, eval_frequency=10)
    assert result.step == 3
    assert checkpoint_folders.newest_checkpoint(str(tmp_path / "run")).endswith(
        "ckpt-3"
    )


def test_what_is_no_callback_is_refused(train, losses):
    with pytest.raises(TypeError, match="expected objects of keras.callbacks.Callback"):
        train(callbacks=["tensorboard"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda _: keras.callbacks.LearningRateScheduler(lambda epoch: 1.0),
            "a LearningRateScheduler; expected none that sets the learning rate",
        ),
        (
            lambda folder: keras.callbacks.ModelCheckpoint(folder / "x.keras"),
            "expected its weights only, .* Use save_weights_only=True",
        ),
        (
            lambda _: keras.callbacks.EarlyStopping(restore_best_weights=True),
            "a EarlyStopping with restore_best_weights; expected none that changes",
        ),
    ],
)
def test_a_callback_that_cannot_do_its_work_says_so(
    train, losses, tmp_path, make, message
):
    with pytest.raises(TypeError, match=message):
        train(callbacks=[make(tmp_path)])

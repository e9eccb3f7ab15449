import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models import build_model
from t2t_mm.models.base import Model
from t2t_mm.models.settings import TransformerHParams
from t2t_mm.problem import Feature

WORDS = Feature("text", vocabulary="words")
LABELS = Feature("class_label", vocabulary="kinds", labels=("ant", "bee", "cat"))
SIZES = {"words": 23, "kinds": 3}
ECHO = made_up_problem("echo", WORDS, WORDS, "To-Echo")
SHOUT = made_up_problem("shout", WORDS, WORDS, "To-Shout")
CLASSIFY = made_up_problem("classify", WORDS, LABELS, "To-Category")


class Recorder(Model):
    """A body that hands on what it gets, and remembers it."""

    def build_body(self):
        pass

    def encode(self, x, mask, *, training):
        return x, {}

    def decode(self, y, mask, *, source, source_mask, training):
        self.seen = np.asarray(y)
        return y, {}


@pytest.fixture
def recorder():
    hparams = TransformerHParams(hidden_size=6, num_heads=2, dropout=0.0)
    model = Recorder(hparams, [ECHO, SHOUT, CLASSIFY], SIZES, name="recorder")
    model.build()
    return model


def test_targets_are_shifted_right_behind_the_command(recorder):
    batch = made_up_batch(ECHO, SIZES)
    recorder.losses_of("echo", batch, training=False)
    embedded = recorder.modalities["text"].targets_bottom(
        batch["targets"], feature=WORDS
    )
    token = recorder.commands.tokens["To-Echo"]
    np.testing.assert_allclose(recorder.seen[:, 0], np.tile(token, (2, 1)))
    np.testing.assert_allclose(recorder.seen[:, 1:], embedded[:, :-1])


def test_another_command_can_be_asked_for(recorder):
    batch = made_up_batch(ECHO, SIZES)
    source, _ = recorder.encode_inputs(ECHO, batch, training=False)
    recorder.decode_targets(
        ECHO,
        batch["targets"],
        batch["targets_mask"],
        source=source,
        training=False,
        token=recorder.commands.token("To-Shout"),
    )
    np.testing.assert_allclose(
        recorder.seen[0, 0], recorder.commands.tokens["To-Shout"]
    )


def test_commands_start_apart(recorder):
    first, second, third = (v.numpy() for v in recorder.commands.tokens.values())
    assert np.abs(first - second).max() > 0.1
    assert np.abs(second - third).max() > 0.1


def test_an_unknown_command_is_refused_by_name(recorder):
    with pytest.raises(ValueError, match="'To-Latin' came; this model knows To-Cat"):
        recorder.commands.token("To-Latin")


def test_the_loss_is_summed_over_real_targets_only(recorder):
    batch = made_up_batch(ECHO, SIZES)
    losses = recorder.losses_of("echo", batch, training=False)
    logits = recorder.modalities["text"].top(recorder.seen, feature=WORDS).numpy()
    mask, ids = batch["targets_mask"], batch["targets"]
    logits, ids = logits[mask], ids[mask]
    right = logits[np.arange(len(ids)), ids]
    expected = np.sum(np.log(np.exp(logits).sum(-1)) - right)
    np.testing.assert_allclose(losses["loss_sum"], expected, rtol=1e-4)
    assert float(losses["weight"]) == mask.sum() < mask.size
    assert float(losses["correct"]) == np.sum(logits.argmax(-1) == ids)
    assert float(losses["auxiliary_loss"]) == 0


def test_class_targets_are_one_label_and_nothing_else(recorder):
    batch = made_up_batch(CLASSIFY, SIZES)
    assert batch["targets"].shape == (2, 1)
    losses = recorder.losses_of("classify", batch, training=False)
    assert float(losses["weight"]) == 2
    assert 0 < float(losses["loss_sum"]) < 20


def test_labels_are_smoothed_in_training_only():
    hparams = TransformerHParams(
        hidden_size=6, num_heads=2, dropout=0.0, label_smoothing=0.3
    )
    model = Recorder(hparams, [ECHO], SIZES, name="recorder")
    model.build()
    batch = made_up_batch(ECHO, SIZES)
    losses = [
        float(model.losses_of("echo", batch, training=training)["loss_sum"])
        for training in (True, False)
    ]
    assert losses[0] != losses[1]


def test_a_model_without_a_body_says_what_is_missing():
    hparams = TransformerHParams(hidden_size=6, num_heads=2)
    empty = Model(hparams, [ECHO], SIZES, name="empty")
    with pytest.raises(TypeError, match="Model must define build_body"):
        empty.build()
    x, mask = tf.zeros([1, 2, 6]), tf.ones([1, 2], tf.bool)
    with pytest.raises(TypeError, match="must define encode"):
        empty.encode(x, mask, training=False)
    with pytest.raises(TypeError, match="must define decode"):
        empty.decode(x, mask, source=x, source_mask=mask, training=False)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (LABELS, WORDS, "'class_label' cannot be inputs; expected one that can"),
        (WORDS, Feature("image", height=3, width=5), "'image' cannot be targets"),
    ],
)
def test_a_modality_in_a_role_that_it_lacks_is_refused_at_once(
    inputs, targets, message
):
    problem = made_up_problem("odd", inputs, targets, "To-Odd")
    with pytest.raises(TypeError, match=message):
        build_model("transformer", TransformerHParams(), [problem], SIZES)


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Nearest: multimodel"):
        build_model("multi_model", TransformerHParams(), [ECHO], SIZES)

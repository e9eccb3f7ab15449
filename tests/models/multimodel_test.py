import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.decoding import sequences
from t2t_mm.layers.timing import add_timing
from t2t_mm.made_up_batches import made_up_batch, made_up_problem
from t2t_mm.models import build_model
from t2t_mm.models.settings import MultiModelHParams, TransformerHParams
from t2t_mm.problem import Feature
from tests.made.models import CLASSIFY, DEEPER, SIZES, TRANSLATE, WORDS


def made(problems=(TRANSLATE, CLASSIFY), **changes):
    keras.utils.set_random_seed(1)
    hparams = dataclasses.replace(DEEPER, **changes)
    return build_model("multimodel", hparams, list(problems), SIZES)


def trained_parts(model, problem):
    """First parts of the paths of all variables with a gradient that is not zero."""
    batch = made_up_batch(problem, SIZES)
    with tf.GradientTape() as tape:
        losses = model.losses_of(problem.name, batch, training=True)
        loss = losses["loss_sum"] / losses["weight"] + losses["auxiliary_loss"]
    assert np.isfinite(loss)
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    return {
        variable.path.split("/")[1]
        for variable, gradient in zip(variables, gradients, strict=True)
        if gradient is not None and np.any(tf.convert_to_tensor(gradient))
    }


def source_and_target(lengths=(7, 5)):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(2, n, 6)).astype(np.float32) for n in lengths)
    x_mask, y_mask = (np.arange(n)[None] < [[n], [n - 2]] for n in lengths)
    return x, x_mask, y, y_mask


def test_the_encoder_is_timing_blocks_and_experts_in_the_middle():
    model = made()
    x, mask, _, _ = source_and_target()
    got, statistics = model.encode(x, mask, training=False)
    h = add_timing(tf.constant(x))
    for block in model.encoder_blocks[:2]:
        h = block(h, mask, training=False)
    h, expected = model.encoder_experts(h, mask, training=False)
    h = model.encoder_blocks[2](h, mask, training=False)
    h = model.encoder_norm(h) * mask[..., None]
    np.testing.assert_allclose(got, h, atol=1e-5)
    assert set(statistics) == {"encoder_experts"}
    balance = statistics["encoder_experts"]["balance_loss"]
    np.testing.assert_allclose(balance, expected["balance_loss"], rtol=1e-5)


def test_mixer_and_decoder_are_attentions_blocks_and_experts_in_the_middle():
    model = made()
    source, source_mask, y, mask = source_and_target()
    asked = {"source": source, "source_mask": source_mask, "training": False}
    got, statistics = model.decode(y, mask, **asked)
    h = model.mixer_attention(y, mask, **asked)
    h = model.mixer_blocks[0](h, mask, training=False)
    h = model.decoder_blocks[0](h, mask, training=False)
    h = model.decoder_attentions[0](h, mask, **asked)
    h, _ = model.decoder_experts(h, mask, training=False)
    h = model.decoder_blocks[1](h, mask, training=False)
    h = model.decoder_attentions[1](h, mask, **asked)
    np.testing.assert_allclose(got, model.decoder_norm(h), atol=1e-4)
    assert set(statistics) == {"decoder_experts"}


def test_the_defaults_are_the_papers_structure():
    hparams = MultiModelHParams()
    assert (hparams.encoder_blocks, hparams.encoder_moe_after) == (6, 3)
    assert (hparams.decoder_blocks, hparams.decoder_moe_after) == (4, 2)
    assert (hparams.mixer_blocks, hparams.attention_conv_blocks) == (4, 2)
    assert hparams.kernels == (3, 3, 15, 15)
    assert hparams.dilations == (1, 1, 1, 8)
    assert (hparams.num_heads, hparams.num_experts) == (8, 60)
    assert (hparams.experts_per_position, hparams.balance_loss_weight) == (4, 1e-2)


@pytest.mark.parametrize("after", [0, 1, 3, 99])
def test_experts_are_asked_wherever_they_stand(after):
    model = made(encoder_moe_after=after, decoder_moe_after=after)
    losses = model.losses_of(
        "translate", made_up_batch(TRANSLATE, SIZES), training=True
    )
    assert set(losses["expert_use"]) == {"encoder_experts", "decoder_experts"}
    for use in losses["expert_use"].values():
        assert use.shape == (5,)
        assert float(tf.reduce_sum(use)) == pytest.approx(1, rel=1e-4)


def test_the_auxiliary_loss_is_the_weighted_sum_of_balance_losses():
    model = made(balance_loss_weight=0.3)
    x, mask, y, y_mask = source_and_target()
    source, statistics = model.encode(x, mask, training=False)
    _, more = model.decode(y, y_mask, source=source, source_mask=mask, training=False)
    statistics |= more
    expected = 0.3 * sum(float(s["balance_loss"]) for s in statistics.values())
    assert float(model.auxiliary_loss(statistics)) == pytest.approx(expected, rel=1e-5)
    assert expected > 0


@pytest.mark.parametrize("use_attention", [True, False])
@pytest.mark.parametrize("use_moe", [True, False])
def test_ablations_build_train_and_decode(use_moe, use_attention):
    model = made(use_moe=use_moe, use_attention=use_attention)
    paths = [variable.path for variable in model.variables]
    assert any("experts" in path for path in paths) == use_moe
    assert any("attention" in path for path in paths) == use_attention
    batch = made_up_batch(TRANSLATE, SIZES)
    losses = model.losses_of("translate", batch, training=True)
    assert bool(losses["expert_use"]) == use_moe
    assert (float(losses["auxiliary_loss"]) > 0) == use_moe
    parts = {path.split("/")[1] for path in paths if "seed" not in path}
    # Of the net for class labels and its command, nothing is asked here.
    parts -= {"class_label"}
    assert trained_parts(model, TRANSLATE) == parts
    assert "class_label" in trained_parts(model, CLASSIFY)
    longest = tf.constant(2)
    found = sequences(model, "translate", batch, DecodeHParams(), max_length=longest)
    assert found["ids"].shape == (2, 1, 2)


def test_without_attention_the_mixer_sees_the_mean_of_the_real_inputs():
    model = made(use_attention=False)
    source, source_mask, y, mask = source_and_target()
    h, _ = model.decode(y, mask, source=source, source_mask=source_mask, training=False)
    mean = (source * source_mask[..., None]).sum(1) / source_mask.sum(1)[:, None]
    whole = np.tile(mean[:, None], (1, 3, 1))
    expected, _ = model.decode(
        y, mask, source=whole, source_mask=np.ones((2, 3), bool), training=False
    )
    np.testing.assert_allclose(h, expected, atol=1e-4)


def test_class_problems_need_no_decoder_unless_asked():
    parts = trained_parts(made(), CLASSIFY)
    assert not any("decoder" in part or "mixer" in part for part in parts)
    assert "commands" not in parts
    assert {"text", "class_label", "encoder_experts"} <= parts


def test_class_problems_use_attention_and_both_experts_when_asked():
    parts = trained_parts(made(decode_classes=True), CLASSIFY)
    assert {
        "commands",
        "encoder_experts",
        "decoder_experts",
        "mixer_attention",
        "decoder_attention1",
        "decoder_attention2",
    } <= parts


def test_problems_with_one_command_share_its_token():
    again = made_up_problem("again", WORDS, WORDS, "To-German")
    other = made_up_problem("other", WORDS, WORDS, "To-French")
    model = made([TRANSLATE, again, other])
    assert model.commands.names == ["To-French", "To-German"]
    assert len(model.commands.trainable_variables) == 2
    batch = made_up_batch(TRANSLATE, SIZES)
    losses = {
        name: float(model.losses_of(name, batch, training=False)["loss_sum"])
        for name in model.problems
    }
    assert losses["translate"] == losses["again"] != losses["other"]


def test_training_one_command_leaves_the_others_alone():
    other = made_up_problem("other", WORDS, WORDS, "To-French")
    model = made([TRANSLATE, other])
    with tf.GradientTape() as tape:
        batch = made_up_batch(TRANSLATE, SIZES)
        loss = model.losses_of("translate", batch, training=True)["loss_sum"]
    tokens = model.commands.tokens
    gradients = tape.gradient(loss, {name: v.value for name, v in tokens.items()})
    assert gradients["To-French"] is None
    assert np.any(gradients["To-German"])


def test_two_vocabularies_of_one_size_do_not_share_weights():
    words = Feature("text", vocabulary="wörter")
    problem = made_up_problem("other", WORDS, words, "To-German")
    sizes = {**SIZES, "wörter": SIZES["words"]}
    model = build_model("multimodel", DEEPER, [problem], sizes)
    assert len(model.modalities["text"].nets) == 2
    assert len(model.weights) == len({weight.path for weight in model.weights})


def test_hparams_of_another_model_are_refused():
    with pytest.raises(TypeError, match="came with TransformerHParams; expected Multi"):
        build_model("multimodel", TransformerHParams(), [TRANSLATE], SIZES)

import numpy as np

from t2t_mm.layers.timing import timing_signal
from t2t_mm.made_up_batches import made_up_problem
from t2t_mm.models import build_model
from t2t_mm.models.settings import TransformerHParams
from t2t_mm.models.transformer import FeedForward, TransformerLayer
from t2t_mm.problem import Feature
from t2t_mm.testing import run_layer_test

WORDS = Feature("text", vocabulary="words")
ECHO = made_up_problem("echo", WORDS, WORDS, "To-Echo")
HPARAMS = TransformerHParams(
    hidden_size=6,
    num_heads=2,
    filter_size=11,
    num_encoder_layers=2,
    num_decoder_layers=1,
    dropout=0.0,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_feed_forward_layer_is_two_maps_with_a_relu_between():
    layer = FeedForward(6, filter_size=11, dropout=0.0)
    layer.build((None, None, 6))
    x = normal(2, 3, 6)
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    y = np.maximum(y @ layer.hidden.kernel.numpy(), 0) @ layer.result.kernel.numpy()
    np.testing.assert_allclose(layer(x, training=False), x + y, atol=1e-4)


def test_a_decoder_layer_is_two_attentions_and_a_feed_forward_each_added():
    layer = TransformerLayer(HPARAMS, is_decoder=True)
    layer.build((None, None, 6))
    x, source = normal(2, 5, 6), normal(2, 3, 6, seed=1)
    own, other = np.tri(5, dtype=bool)[None, None], np.ones((2, 1, 1, 3), bool)
    got = layer(x, own, source, other, training=False)
    y = layer.norm(x)
    y = x + layer.attention(y, y, own, training=False)
    y += layer.source_attention(layer.source_norm(y), source, other, training=False)
    y = layer.feed_forward(y, training=False)
    np.testing.assert_allclose(got, y, atol=1e-5)


def test_the_encoder_is_timing_layers_and_a_norm():
    model = build_model("transformer", HPARAMS, [ECHO], {"words": 23})
    x, mask = normal(2, 5, 6), np.arange(5)[None] < [[5], [3]]
    got, statistics = model.encode(x, mask, training=False)
    y = x + timing_signal(5, 6).numpy()
    for layer in model.encoder_layers:
        y = layer(y, mask[:, None, None], training=False)
    np.testing.assert_allclose(got, model.encoder_norm(y), atol=1e-5)
    assert statistics == {}


def test_layers_keep_their_laws():
    x, source = normal(2, 5, 6), normal(2, 3, 6, seed=1)
    masks = np.tri(5, dtype=bool)[None, None], np.ones((2, 1, 1, 3), bool)
    assert not run_layer_test(
        lambda: TransformerLayer(HPARAMS, is_decoder=True),
        x,
        masks[0],
        source,
        masks[1],
    )

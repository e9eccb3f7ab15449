import numpy as np
import pytest

from t2t_mm.configuration import HParams
from t2t_mm.modalities.class_label import ClassLabelModality, ExitFlow
from t2t_mm.problem import Feature
from t2t_mm.testing import run_layer_test, run_modality_test

ANIMALS = Feature("class_label", vocabulary="animals", labels=("ant", "bee", "cat"))
COLOURS = Feature("class_label", vocabulary="colours", labels=("red", "tan", "sky"))
SIZES = {"animals": 3, "colours": 3}
HPARAMS = HParams(hidden_size=6, dropout=0.0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def made(*features):
    modality = ClassLabelModality(HPARAMS, features, SIZES, name="class_label")
    modality.build()
    return modality


def conv_step(step, x, mask, stride=1):
    """3x3 separable convolution of ReLU(x), normalised; window by window."""
    x = np.maximum(x, 0) * mask[..., None]
    rows, columns = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((len(x), -(-rows // stride), -(-columns // stride), x.shape[3]))
    for i, j in np.ndindex(y.shape[1:3]):
        window = x[:, i * stride :, j * stride :][:, :3, :3]
        y[:, i, j] = np.einsum("nabc,abc->nc", window, step.depthwise.numpy())
    y = y @ step.pointwise.numpy() + step.bias.numpy()
    return (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)


def exit_flow(flow, x, mask):
    h = conv_step(flow.step2, conv_step(flow.step1, x, mask), mask)
    pooled = np.zeros((len(x), -(-x.shape[1] // 2), -(-x.shape[2] // 2), x.shape[3]))
    for n, i, j in np.ndindex(pooled.shape[:3]):
        if mask[n, 2 * i, 2 * j]:
            near = (
                slice(max(2 * i - 1, 0), 2 * i + 2),
                slice(max(2 * j - 1, 0), 2 * j + 2),
            )
            pooled[n, i, j] = h[n][near][mask[n][near]].max(0)
    h = conv_step(flow.skip, x, mask, stride=2) + pooled
    mask = mask[:, ::2, ::2]
    h = conv_step(flow.step5, conv_step(flow.step4, h, mask), mask)
    h = np.maximum(h, 0) * mask[..., None]
    return h.sum((1, 2)) / mask.sum((1, 2))[:, None]


@pytest.mark.parametrize("height, width", [(7, 5), (4, 6), (1, 1), (11, 1)])
def test_the_exit_flow_is_five_steps_a_pool_and_a_masked_mean(height, width):
    flow = ExitFlow(6)
    flow.build(None)
    x, mask = normal(2, height, width, 6), np.ones((2, height, width), bool)
    mask[1, height // 2 + 1 :] = False
    got = flow(x, mask)
    assert got.shape == (2, 12)
    np.testing.assert_allclose(got, exit_flow(flow, x, mask), atol=1e-3)
    assert flow.step4.filters == 9  # 1.5 D
    assert flow.step5.filters == 12  # 2 D


def test_a_grid_is_pooled_as_a_picture_and_a_sequence_as_one_column():
    modality = made(ANIMALS)
    x, mask = normal(2, 15, 6), np.ones((2, 15), bool)
    for grid, shape in (((5, 3), (5, 3)), (None, (15, 1))):
        got = modality.pool(x, mask, grid, training=False)
        picture = x.reshape(2, *shape, 6)
        expected = modality.flow(picture, mask.reshape(2, *shape))
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("extra", [1, 2, 5])
def test_padding_does_not_change_the_vector(extra):
    modality = made(ANIMALS)
    x, mask = normal(2, 7, 6), np.arange(7)[None] < [[7], [4]]
    before = modality.pool(x, mask, None, training=False)
    longer = np.concatenate([x, normal(2, extra, 6, seed=1)], 1)
    mask = np.arange(7 + extra)[None] < [[7], [4]]
    after = modality.pool(longer, mask, None, training=False)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_each_label_set_has_a_map_of_its_own_whatever_its_size():
    modality = made(ANIMALS, COLOURS)
    assert set(modality.heads) == {"animals", "colours"}
    vector = normal(2, 12)
    first, second = (
        modality.top(vector, feature=feature) for feature in (ANIMALS, COLOURS)
    )
    assert first.shape == second.shape == (2, 3)
    assert np.abs(first - second).max() > 0.01
    kernel, bias = modality.heads["colours"].get_weights()
    np.testing.assert_allclose(second, vector @ kernel + bias, atol=1e-5)


def test_labels_cannot_be_inputs():
    with pytest.raises(TypeError, match="'class_label' cannot be inputs"):
        made(ANIMALS).bottom(
            np.zeros((1, 1)), np.ones((1, 1)), feature=ANIMALS, training=False
        )


def test_labels_keep_the_laws_of_modalities():
    sizes = {"animals": 3}
    assert not run_modality_test(
        "class_label", ANIMALS, HPARAMS, vocabularies=sizes, role="targets"
    )
    x, mask = normal(2, 5, 3, 6), np.ones((2, 5, 3), bool)
    assert not run_layer_test(lambda: ExitFlow(6), x, mask)

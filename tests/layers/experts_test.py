import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from t2t_mm.layers import experts
from t2t_mm.layers.experts import ExpertBlock, MixtureOfExperts, squared_variation
from t2t_mm.testing import run_layer_test
from tests.made.experts import SIZE, answers_of_all, made, normal


def gates_of(scores, k):
    """Softmax over the k largest of each row, zero elsewhere: [N, E]."""
    gates = np.zeros_like(scores)
    for row, gate in zip(scores, gates, strict=True):
        best = np.argsort(-row, kind="stable")[:k]
        share = np.exp(row[best] - row[best].max())
        gate[best] = share / share.sum()
    return gates


def squared_variation_of(x):
    return x.var() / x.mean() ** 2


def load_of(clean, noisy, scale, k):
    """Shazeer et al. 2017, appendix A, equations 8 to 10, entry by entry.

    P(x, i) = Phi((clean_i - kth_excluding(noisy, k, i)) / scale_i)
    """
    load = np.zeros(clean.shape[1])
    for n, i in np.ndindex(clean.shape):
        others = np.sort(np.delete(noisy[n], i))[::-1]
        load[i] += norm.cdf((clean[n, i] - others[k - 1]) / scale[n, i])
    return load


def scores_of(layer, x):
    clean = x @ layer.gate.numpy()
    scale = np.logaddexp(0, x @ layer.gate_noise.numpy()) + 1e-2
    return clean, scale


@pytest.mark.parametrize("num_experts, k", [(7, 2), (7, 1), (3, 3), (1, 1), (31, 4)])
def test_dispatching_to_the_best_is_the_same_as_asking_all(num_experts, k):
    layer = made(num_experts, k)
    x, mask = normal(2, 11, SIZE), np.arange(11)[None] < [[11], [6]]
    got, _ = layer(x, mask, training=False)
    flat = x.reshape(-1, SIZE)
    gates = gates_of(scores_of(layer, flat)[0], k) * mask.reshape(-1, 1)
    expected = np.einsum("ne,ned->nd", gates, answers_of_all(layer, flat))
    np.testing.assert_allclose(got, expected.reshape(x.shape), atol=1e-4)


@pytest.mark.parametrize("num_experts, k", [(7, 2), (1, 1), (31, 4), (67, 2)])
@pytest.mark.parametrize("count", [1, 5, 37])
def test_asked_about_a_few_positions_the_chosen_answer_as_all_would(
    num_experts, k, count
):
    layer = made(num_experts, k)
    x = normal(count, SIZE)
    gates = gates_of(scores_of(layer, x)[0], k)
    expected = np.einsum("ne,ned->nd", gates, answers_of_all(layer, x))
    for has_fixed_shapes in (False, True):
        got = layer.prepared(has_fixed_shapes=has_fixed_shapes)(tf.constant(x))
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_in_training_noise_is_added_before_the_best_are_chosen(known_noise):
    layer = made()
    x, mask = normal(2, 11, SIZE), np.ones((2, 11), bool)
    got, _ = layer(x, mask, training=True)
    flat = x.reshape(-1, SIZE)
    clean, scale = scores_of(layer, flat)
    gates = gates_of(clean + scale * known_noise(clean.shape), 2)
    expected = np.einsum("ne,ned->nd", gates, answers_of_all(layer, flat))
    np.testing.assert_allclose(got, expected.reshape(x.shape), atol=1e-4)


@pytest.mark.parametrize("num_experts, k", [(7, 2), (7, 1), (5, 4)])
def test_importance_and_load_are_those_of_the_paper(known_noise, num_experts, k):
    layer = made(num_experts, k)
    x, mask = normal(2, 11, SIZE), np.arange(11)[None] < [[11], [6]]
    _, statistics = layer(x, mask, training=True)
    real = x[mask]
    clean, scale = scores_of(layer, real)
    noise = known_noise((22, num_experts))  # padding draws, too
    noisy = clean + scale * noise[mask.reshape(-1)]
    importance = gates_of(noisy, k).sum(0)
    load = load_of(clean, noisy, scale, k)
    expected = squared_variation_of(importance) + squared_variation_of(load)
    assert float(statistics["balance_loss"]) == pytest.approx(expected, rel=1e-3)
    np.testing.assert_allclose(
        statistics["use"], importance / importance.sum(), atol=1e-5
    )
    assert float(statistics["unused"]) == np.sum(importance == 0)


def test_without_noise_the_load_is_a_count():
    layer = made()
    x, mask = normal(2, 11, SIZE), np.ones((2, 11), bool)
    _, statistics = layer(x, mask, training=False)
    gates = gates_of(scores_of(layer, x.reshape(-1, SIZE))[0], 2)
    counts = (gates > 0).sum(0)
    expected = squared_variation_of(gates.sum(0)) + squared_variation_of(counts)
    assert float(statistics["balance_loss"]) == pytest.approx(expected, rel=1e-3)


def test_squared_variation_is_variance_over_squared_mean():
    assert float(squared_variation(tf.constant([2.0, 2.0, 2.0]))) == 0
    # mean 2, variance (1 + 1) / 2 = 1
    assert float(squared_variation(tf.constant([1.0, 3.0]))) == pytest.approx(0.25)
    assert float(squared_variation(tf.constant([0.0, 0.0]))) == 0


def test_gates_start_at_zero_and_only_noise_decides(known_noise):
    layer = MixtureOfExperts(num_experts=7, expert_size=3, experts_per_position=2)
    layer.build((None, None, SIZE))
    assert not layer.gate.numpy().any()
    assert not layer.gate_noise.numpy().any()
    x, mask = normal(1, 11, SIZE), np.ones((1, 11), bool)
    _, statistics = layer(x, mask, training=True)
    scale = np.log(2) + 1e-2  # softplus(0), and the floor
    importance = gates_of(scale * known_noise((11, 7)), 2).sum(0)
    np.testing.assert_allclose(
        statistics["use"], importance / importance.sum(), atol=1e-5
    )


def test_a_balanced_layer_has_a_smaller_loss_than_one_with_a_favourite():
    layer = made()
    layer.gate_noise.assign(np.zeros_like(layer.gate_noise))
    x, mask = np.abs(normal(4, 101, SIZE)), np.ones((4, 101), bool)
    favourite = np.zeros((SIZE, 7), np.float32)
    favourite[:, 4] = 10
    losses = []
    for gate in (np.zeros_like(favourite), favourite):
        layer.gate.assign(gate)
        losses.append(float(layer(x, mask, training=True)[1]["balance_loss"]))
    assert losses[0] < 0.1 < 3 < losses[1]


def test_the_balance_loss_pulls_the_gate_away_from_a_favourite():
    layer = made(3, 1)
    gate = np.zeros((SIZE, 3), np.float32)
    gate[:, 1] = 0.5
    layer.gate.assign(gate)
    layer.gate_noise.assign(np.zeros_like(layer.gate_noise))
    x, mask = np.abs(normal(2, 31, SIZE)), np.ones((2, 31), bool)
    with tf.GradientTape() as tape:
        loss = layer(x, mask, training=True)[1]["balance_loss"]
    slope = tape.gradient(loss, layer.gate.value).numpy().sum(0)
    assert slope[1] > 0 > max(slope[0], slope[2])


def test_padding_is_routed_nowhere_and_counts_nowhere():
    layer = made()
    x, mask = normal(2, 11, SIZE), np.arange(11)[None] < [[11], [6]]
    before, statistics = layer(x, mask, training=False)
    x[~mask] = 100 * normal(np.sum(~mask), SIZE, seed=9)
    after, again = layer(x, mask, training=False)
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(statistics["use"], again["use"])
    assert statistics["balance_loss"] == again["balance_loss"]
    assert not after.numpy()[~mask].any()


def test_a_batch_of_padding_alone_asks_nobody():
    layer = made()
    answers, statistics = layer(
        normal(2, 3, SIZE), np.zeros((2, 3), bool), training=True
    )
    assert not answers.numpy().any()
    assert float(statistics["unused"]) == 7
    assert np.all(np.isfinite(statistics["use"]))
    assert np.isfinite(statistics["balance_loss"])


def test_permuting_experts_permutes_gates():
    layer, other = made(), made()
    order = np.random.default_rng(0).permutation(7)
    for name in ("gate", "gate_noise"):
        getattr(other, name).assign(getattr(layer, name).numpy()[:, order])
    pairs = zip(layer.groups[0][1:], other.groups[0][1:], strict=True)
    for weight, permuted in pairs:
        permuted.assign(weight.numpy()[order])
    x, mask = normal(2, 11, SIZE), np.ones((2, 11), bool)
    first, statistics = layer(x, mask, training=False)
    second, permuted = other(x, mask, training=False)
    np.testing.assert_allclose(first, second, atol=1e-5)
    permuted_use = statistics["use"].numpy()[order]
    np.testing.assert_allclose(permuted["use"], permuted_use, atol=1e-6)


def test_a_position_gets_the_same_answer_alone():
    layer = made()
    x, mask = normal(2, 11, SIZE), np.ones((2, 11), bool)
    together, _ = layer(x, mask, training=False)
    for b, i in ((0, 0), (1, 10)):
        alone, _ = layer(x[b : b + 1, i : i + 1], mask[:1, :1], training=False)
        np.testing.assert_allclose(alone[0, 0], together[b, i], atol=1e-5)


def test_the_gradient_through_dispatch_is_that_of_asking_all():
    layer = made()
    x, mask = normal(2, 11, SIZE), np.arange(11)[None] < [[11], [6]]
    weight = normal(2, 11, SIZE, seed=5)
    hidden, hidden_bias, output, output_bias = (w.value for w in layer.groups[0][1:])
    parts = [tf.constant(x), *(v.value for v in layer.trainable_variables)]

    def dense(x):
        flat = tf.boolean_mask(x, mask)
        clean = tf.matmul(flat, layer.gate.value)
        top, chosen = tf.math.top_k(clean, 2)
        gates = tf.reduce_sum(
            tf.nn.softmax(top)[..., None] * tf.one_hot(chosen, 7), 1
        )  # [N, E]
        h = tf.nn.relu(tf.einsum("nd,edf->nef", flat, hidden) + hidden_bias[:, 0])
        answers = tf.einsum("nef,efd->ned", h, output) + output_bias[:, 0]
        return tf.einsum("ne,ned->nd", gates, answers)

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch(parts)
            loss = function(parts[0])
        return tape.gradient(loss, parts, unconnected_gradients="zero")

    got = gradients(lambda x: tf.reduce_sum(layer(x, mask, training=False)[0] * weight))
    expected = gradients(lambda x: tf.reduce_sum(dense(x) * weight[mask]))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("k", [0, 8])
def test_an_impossible_number_of_experts_per_position_is_refused(k):
    with pytest.raises(ValueError, match=f"experts_per_position is {k} with 7"):
        made(7, k)


def test_the_block_adds_what_the_experts_make_of_the_normalised_input():
    block = ExpertBlock(
        num_experts=7, expert_size=3, experts_per_position=2, dropout=0.0
    )
    block.build((None, None, SIZE))
    x, mask = normal(2, 11, SIZE), np.ones((2, 11), bool)
    got, statistics = block(x, mask, training=False)
    answers, expected = block.experts(block.norm(x), mask, training=False)
    np.testing.assert_allclose(got, x + answers, atol=1e-6)
    assert statistics["balance_loss"] == expected["balance_loss"]


def test_gates_are_computed_in_float32_under_low_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = made()
    finally:
        keras.config.set_dtype_policy("float32")
    x = tf.cast(normal(2, 11, SIZE), tf.bfloat16)
    mask = np.ones((2, 11), bool)
    answers, statistics = layer(x, mask, training=False)
    gates = gates_of(scores_of(layer, tf.cast(x, tf.float32).numpy()[mask])[0], 2)
    expected = gates.sum(0) / gates.sum()
    assert answers.dtype == tf.bfloat16
    assert statistics["use"].dtype == statistics["balance_loss"].dtype == tf.float32
    np.testing.assert_allclose(statistics["use"], expected, atol=1e-5)


def test_expert_layers_keep_the_laws_of_layers():
    x, mask = normal(2, 11, SIZE), np.arange(11)[None] < [[11], [6]]
    sizes = {"num_experts": 7, "expert_size": 3, "experts_per_position": 2}
    assert not run_layer_test(lambda: MixtureOfExperts(**sizes), x, mask)
    assert not run_layer_test(lambda: ExpertBlock(**sizes, dropout=0.1), x, mask)


def in_pieces(monkeypatch, layer, **sizes):
    """Gives a layer with the same weights, its experts cut in pieces."""
    monkeypatch.setattr(experts, "PIECE", 40)
    other = made(**sizes)
    for i in range(4):
        whole = layer.groups[0][1 + i].numpy()
        cut = np.split(whole, len(other.groups))
        for group, piece in zip(other.groups, cut, strict=True):
            group[1 + i].assign(piece)
    for name in ("gate", "gate_noise"):
        getattr(other, name).assign(getattr(layer, name).numpy())
    return other


@pytest.mark.parametrize("capacity_factor", [None, 1.0])
def test_pieces_answer_and_learn_as_the_whole(
    monkeypatch, known_noise, capacity_factor
):
    sizes = {"num_experts": 12, "k": 2, "capacity_factor": capacity_factor}
    layer = made(**sizes)
    other = in_pieces(monkeypatch, layer, **sizes)
    assert (len(layer.groups), len(other.groups)) == (1, 12)
    x, mask = normal(2, 11, SIZE), np.arange(11)[None] < [[11], [6]]
    weight = normal(2, 11, SIZE, seed=5)

    def learned(layer):
        weights = [v.value for group in layer.groups for v in group[1:]]
        with tf.GradientTape() as tape:
            answers, _ = layer(x, mask, training=True)
            loss = tf.reduce_sum(answers * weight)
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        joined = [tf.concat(gradients[i::4], 0) for i in range(4)]
        return [answers, *joined]

    for one, cut in zip(learned(layer), learned(other), strict=True):
        np.testing.assert_allclose(one, cut, atol=1e-5)
    for fixed in (False, True):
        rows = normal(7, SIZE)
        one, cut = (each.prepared(has_fixed_shapes=fixed) for each in (layer, other))
        np.testing.assert_allclose(one(rows), cut(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("num_experts", "expert_bytes", "expected"),
    [
        (8, 2**17, 1),  # multimodel_tiny: 1 MiB in all
        (16, 2**19, 1),  # multimodel_small
        (240, 2**17, 30),
        (30, 3 * 2**18, 15),
        (31, 3 * 2**18, 1),  # no divisor
        (240, 2**20, 30),  # as many as there are parts
        (60, 2**22, 30),  # multimodel_base: two experts a piece
        (30, 2**22, 30),
        (31, 2**22, 31),
    ],
)
def test_many_experts_are_cut_in_pieces(num_experts, expert_bytes, expected):
    assert experts.num_pieces(num_experts, expert_bytes) == expected

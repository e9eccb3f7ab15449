import numpy as np
import pytest

from t2t_mm.losses import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_loss_is_the_cross_entropy_of_the_smoothed_labels(smoothing):
    logits = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 4, 0, 3], np.int32)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    loss, weight, correct = cross_entropy(logits, labels, label_smoothing=smoothing)
    np.testing.assert_allclose(loss, -(wanted * log_p).sum(), rtol=1e-5)
    assert float(weight) == 7
    assert float(correct) == np.sum(logits.argmax(-1) == labels)


def test_no_labels_cost_nothing():
    found = cross_entropy(
        np.zeros((0, 5), np.float32), np.zeros(0, np.int32), label_smoothing=0.1
    )
    assert [float(number) for number in found] == [0, 0, 0]

"""Fixtures of the tests of layers."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers import noise
from tests.made.experts import normal


@pytest.fixture
def known_noise(monkeypatch):
    """Makes the layer's noise a known array instead of a draw."""

    def draw(shape, seed):
        return tf.constant(normal(*np.array(shape), seed=17))

    monkeypatch.setattr(noise, "normal", draw)
    return lambda shape: normal(*shape, seed=17)

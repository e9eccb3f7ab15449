import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.layers.timing import add_timing, timing_rates, timing_signal


@pytest.mark.parametrize("depth", [2, 6, 7])
def test_the_signal_is_sine_and_cosine_of_position_times_rate(depth):
    signal = timing_signal(11, depth).numpy()
    assert signal.shape == (11, depth)
    for t in range(11):
        for channel in range(depth):
            rate = 1e4 ** (-(channel // 2 * 2) / depth)
            wave = np.cos if channel % 2 else np.sin
            assert signal[t, channel] == pytest.approx(wave(t * rate), abs=1e-5)


def test_rates_fall_from_1_to_almost_1e_minus_4():
    rates = timing_rates(1000)
    assert rates[0] == rates[1] == 1.0
    assert rates[-1] == pytest.approx(1e-4, rel=0.02)


def test_positions_one_at_a_time_have_the_signal_of_the_whole():
    whole = timing_signal(7, 5).numpy()
    for start in range(7):
        alone = timing_signal(1, 5, start)[0]
        np.testing.assert_allclose(alone, whole[start], atol=1e-6)


def test_the_signal_is_added_to_every_row_alike_in_its_dtype():
    x = tf.zeros([2, 3, 5], tf.bfloat16)
    y = add_timing(x)
    assert y.dtype == tf.bfloat16
    expected = np.tile(timing_signal(3, 5).numpy(), (2, 1, 1))
    np.testing.assert_allclose(tf.cast(y, tf.float32), expected, atol=0.01)

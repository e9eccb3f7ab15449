"""The timing signal: where a position is, added to what it holds."""

import numpy as np
import tensorflow as tf

from t2t_mm.layers.segments import Segments


def timing_rates(depth: int) -> np.ndarray:
    """Gives the D rates, each twice: rate(2d) = 1e4 ** (-2d / D); float32 [D]."""
    even = np.arange(0, depth, 2, dtype=np.float32)
    return np.repeat(np.power(1e4, -even / depth), 2)[:depth].astype(np.float32)


def timing_signal(length: tf.Tensor | int, depth: int, start: tf.Tensor | int = 0):
    """Gives sines and cosines of the positions.

    timing(t, [2d, 2d + 1]) = [sin(t * rate(2d)), cos(t * rate(2d))]

    Args:
      length: number of positions (L).
      depth: number of channels (D).
      start: the first position, for decoding one at a time.

    Returns:
      Float32 [L, D].

    Source: Kaiser et al. 2017, section 2.2, arxiv.org/abs/1706.05137.
    """
    position = tf.cast(tf.range(start, start + length), tf.float32)
    phase = np.where(np.arange(depth) % 2 == 0, 0.0, np.pi / 2).astype(np.float32)
    return tf.sin(position[:, None] * timing_rates(depth) + phase)


def add_timing(
    x: tf.Tensor, start: tf.Tensor | int = 0, *, segments: Segments | None = None
) -> tf.Tensor:
    """Adds the timing signal to x [B, L, D]; in packed rows to each example its own."""
    if segments is None:
        return x + tf.cast(timing_signal(tf.shape(x)[1], x.shape[-1], start), x.dtype)
    signal = timing_signal(tf.shape(segments.mask)[1], x.shape[-1])  # [T, D]
    return x + tf.cast(tf.gather(signal, segments.positions), x.dtype)

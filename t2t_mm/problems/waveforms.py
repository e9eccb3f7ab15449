"""Waveforms in numpy: to and from PCM16 WAV bytes, resampling, joining.

A waveform is float32 [T] in -1..1.
"""

import io
import wave
from collections.abc import Sequence

import numpy as np


def wav_of(samples: np.ndarray, sample_rate: int) -> bytes:
    """Gives a mono 16-bit PCM WAV file.

    Args:
      samples: float [T]; clipped to -1..1.
      sample_rate: Hz.
    """
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue()


def resampled(samples: np.ndarray, *, up: int, down: int) -> np.ndarray:
    """Gives the same sound with up / down times as many samples, band-limited.

    The spectrum is cut or filled with zeros, which is exact for a periodic signal; the
    end is padded with silence so that nothing wraps around. Quick where `up` and
    `down` have small prime factors.

    Args:
      samples: float [T].
      up, down: the ratio of the new rate to the old, at least 1 each.

    Returns:
      float32 [T * up / down], rounded up.

    Raises:
      ValueError: if up or down is below 1.
    """
    if up < 1 or down < 1:
        raise ValueError(
            f"The ratio is {up}/{down}; whole numbers of at least 1 were expected. "
            "Check the sample rates or the speed."
        )
    block = down
    while block < len(samples) + 256:
        block *= 2
    new_block = block // down * up
    spectrum = np.fft.rfft(samples, block)
    size = new_block // 2 + 1
    spectrum = np.pad(spectrum, (0, max(0, size - len(spectrum))))[:size]
    longer = np.fft.irfft(spectrum, new_block) * (up / down)
    return longer[: -(-len(samples) * up // down)].astype(np.float32)


def trimmed(samples: np.ndarray, sample_rate: int, *, keep_seconds: float = 0.06):
    """Gives a waveform without the silence at its ends.

    Silence is what stays below 2 percent of the loudest sample.

    Args:
      samples: float [T].
      sample_rate: Hz.
      keep_seconds: how much silence to leave at each end.
    """
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.max(np.abs(samples), initial=0))
    if not len(loud):
        return samples
    keep = round(keep_seconds * sample_rate)
    return samples[max(0, loud[0] - keep) : loud[-1] + 1 + keep]


def joined(
    parts: Sequence[np.ndarray], pauses: Sequence[float] | np.ndarray, sample_rate: int
) -> np.ndarray:
    """Gives waveforms one after the other with silence between.

    Args:
      parts: float [T_i] each.
      pauses: seconds of silence after each part; one less than parts.
      sample_rate: Hz.
    """
    pieces = [parts[0]]
    for part, pause in zip(parts[1:], pauses, strict=True):
        pieces += [np.zeros(round(pause * sample_rate), np.float32), part]
    return np.concatenate(pieces)

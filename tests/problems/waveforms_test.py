import io
import wave

import numpy as np
import pytest

from t2t_mm.problems import waveforms


def tone(rate, seconds=0.5, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize(("up", "down"), [(2, 1), (320, 441), (15, 16), (1, 1)])
def test_a_resampled_tone_is_the_tone_at_the_other_rate(up, down):
    rate = 11025
    answer = waveforms.resampled(tone(rate), up=up, down=down)
    expected = tone(rate * up / down)
    assert abs(len(answer) - len(expected)) <= 1
    middle = slice(400, min(len(answer), len(expected)) - 400)
    np.testing.assert_allclose(answer[middle], expected[middle], atol=0.02)


def test_a_ratio_below_one_is_refused():
    with pytest.raises(ValueError, match=r"ratio is 0/1"):
        waveforms.resampled(tone(8000), up=0, down=1)


def test_wav_bytes_hold_the_samples():
    samples = np.array([0.0, 0.5, -1.0, 3.0])
    with wave.open(io.BytesIO(waveforms.wav_of(samples, 16000))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getframerate() == 16000
        pcm = np.frombuffer(file.readframes(9), "<i2")
    assert pcm.tolist() == [0, 16384, -32767, 32767]


def test_silence_at_the_ends_is_trimmed():
    quiet = np.zeros(1000)
    trimmed = waveforms.trimmed(
        np.concatenate([quiet, np.ones(50), quiet]), 1000, keep_seconds=0.01
    )
    assert trimmed.tolist() == [0.0] * 10 + [1.0] * 50 + [0.0] * 10
    assert len(waveforms.trimmed(quiet, 1000)) == 1000


def test_parts_are_joined_with_pauses():
    joined = waveforms.joined([np.ones(2), np.ones(3)], [0.5], 4)
    assert joined.tolist() == [1, 1, 0, 0, 1, 1, 1]

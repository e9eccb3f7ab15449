import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from t2t_mm.configuration import HParams
from t2t_mm.modalities.audio import AudioModality, log_mel
from t2t_mm.problem import Feature
from t2t_mm.testing import run_modality_test

SOUND = Feature("audio", sample_rate=8000)
HPARAMS = HParams(
    hidden_size=6, audio_filters=2, audio_stages=2, audio_mel_bins=7, dropout=0.0
)
PAPER = dataclasses.replace(
    HPARAMS, audio_stack="paper", audio_stages=3, audio_filters=32
)
WAVEFORM = dataclasses.replace(
    HPARAMS, audio_input="waveform", audio_stages=3, audio_mel_bins=80
)
PAPER_WAVEFORM = dataclasses.replace(PAPER, audio_input="waveform", audio_mel_bins=80)
ALL = {
    "log-mel": HPARAMS,
    "paper": PAPER,
    "waveform": WAVEFORM,
    "paper on waveform": PAPER_WAVEFORM,
}


def waves(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def mask_of(*lengths, size):
    return np.arange(size)[None] < np.array(lengths)[:, None]


def made(hparams):
    modality = AudioModality(hparams, [SOUND], {}, name="audio")
    modality.build()
    return modality


def mel(frequency):
    """Source: O'Shaughnessy 1987, page 150, as HTK writes it."""
    return 1127 * np.log(1 + frequency / 700)


def log_mel_of(x, rate, bins, window_ms, hop_ms):
    """The spectrum of one sound, by the definition: [frames, bins], normalised."""
    window, hop = round(rate * window_ms / 1000), round(rate * hop_ms / 1000)
    size = 1 << (window - 1).bit_length()
    num_frames = -(-len(x) // hop)
    x = np.pad(x, (0, window))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = np.stack([x[i * hop : i * hop + window] * hann for i in range(num_frames)])
    times = np.outer(np.arange(size // 2 + 1), np.arange(window)) / size
    spectrum = np.abs(frames @ np.exp(-2j * np.pi * times).T)
    edges = np.linspace(mel(60.0), mel(rate * 0.49), bins + 2)
    place = mel(np.arange(size // 2 + 1) * rate / size)
    triangles = np.zeros((size // 2 + 1, bins))
    for b in range(bins):
        low, centre, high = edges[b : b + 3]
        up, down = (place - low) / (centre - low), (high - place) / (high - centre)
        triangles[:, b] = np.maximum(0, np.minimum(up, down))
    triangles[0] = 0  # the constant part is no sound
    y = np.log(spectrum @ triangles + 1e-5)
    return (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-3)


@pytest.mark.parametrize("length", [1, 79, 80, 81, 2003])
def test_log_mel_is_the_spectrum_by_its_definition(length):
    x = waves(2, length)
    got, mask = log_mel(
        x,
        np.ones_like(x, bool),
        sample_rate=8000,
        num_bins=7,
        window_ms=25.0,
        hop_ms=10.0,
    )
    assert got.shape == (2, -(-length // 80), 7)
    assert np.all(mask)
    for row, sound in zip(got, x, strict=True):
        expected = log_mel_of(sound.astype(np.float64), 8000, 7, 25.0, 10.0)
        np.testing.assert_allclose(row, expected, atol=2e-3)


def test_a_bin_is_high_while_a_tone_of_its_pitch_sounds():
    times = np.arange(4000) / 8000
    tones = [np.sin(2 * np.pi * hertz * times) for hertz in (300, 3000)]
    spectra, _ = log_mel(
        np.concatenate(tones)[None],
        np.ones((1, 8000), bool),
        sample_rate=8000,
        num_bins=20,
        window_ms=25.0,
        hop_ms=10.0,
    )
    falls = np.mean(spectra[0, :48], 0) - np.mean(spectra[0, 52:], 0)
    centres = np.linspace(mel(60.0), mel(3920.0), 22)[1:-1]
    low, high = (np.argmin(np.abs(centres - mel(hertz))) for hertz in (300, 3000))
    assert falls[low] > 1.9
    assert falls[high] < -1.9


@pytest.mark.parametrize("hparams", ALL.values(), ids=ALL)
@pytest.mark.parametrize("extra", [1, 80, 81, 777])
def test_padding_changes_no_real_position(hparams, extra):
    modality = made(hparams)
    x, mask = waves(2, 1601), mask_of(1601, 1137, size=1601)
    before = modality.bottom(x, mask, feature=SOUND, training=False)
    longer = np.concatenate([x, waves(2, extra, seed=1)], 1)
    longer[1, 1137:] = waves(464 + extra, seed=2)
    mask = mask_of(1601, 1137, size=1601 + extra)
    after = modality.bottom(longer, mask, feature=SOUND, training=False)
    np.testing.assert_array_equal(
        np.sum(after.mask, 1, dtype=int), np.sum(before.mask, 1, dtype=int)
    )
    for row in range(2):
        got = after.x.numpy()[row][after.mask.numpy()[row]]
        expected = before.x.numpy()[row][before.mask.numpy()[row]]
        np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize(
    "hparams, positions",
    [
        (HPARAMS, 6),  # 1601 samples: 21 windows, halved twice
        (dataclasses.replace(HPARAMS, audio_stages=0), 21),
        (dataclasses.replace(HPARAMS, audio_stages=1), 11),
        (dataclasses.replace(HPARAMS, audio_stages=3), 3),
        (PAPER, 3),  # halved three times
        (dataclasses.replace(PAPER, audio_stages=8), 1),
        (WAVEFORM, 201),
        (PAPER_WAVEFORM, 201),
    ],
)
def test_each_stage_halves_time(hparams, positions):
    x = waves(2, 1601)
    found = made(hparams).bottom(
        x, np.ones_like(x, bool), feature=SOUND, training=False
    )
    assert found.x.shape == (2, positions, 6)
    assert found.mask.shape == (2, positions)
    assert found.grid is None


def test_the_papers_stack_doubles_filters_and_keeps_every_frequency():
    modality = made(dataclasses.replace(PAPER, audio_stages=8))
    filters = [residual.filters for residual in modality.net.residuals]
    assert filters == [2, 4, 8, 16, 32, 64, 128, 256]
    assert {residual.strides for residual in modality.net.residuals} == {(2, 1)}
    assert modality.net.folded == 7 * 256


def test_masked_bands_are_drawn_in_training_only():
    modality = made(dataclasses.replace(HPARAMS, spec_augment=True))
    x = waves(5, 1601)

    def represented(training):
        mask = np.ones_like(x, bool)
        return modality.bottom(x, mask, feature=SOUND, training=training).x.numpy()

    np.testing.assert_array_equal(represented(False), represented(False))
    assert np.abs(represented(True) - represented(False)).max() > 0.01
    ones = modality._spec_augment(
        tf.ones([5, 101, 20]), tf.ones([5, 101], tf.bool)
    ).numpy()
    assert set(np.unique(ones)) == {0.0, 1.0}
    kept_bins, kept_frames = ones.any(1), ones.any(2)
    assert ((20 - 8 <= kept_bins.sum(1)) & (kept_bins.sum(1) <= 20)).all()
    assert ((101 - 22 <= kept_frames.sum(1)) & (kept_frames.sum(1) <= 101)).all()


@pytest.mark.parametrize("change", [{"audio_speed_change": 0.2}, {"audio_noise": 0.5}])
def test_sounds_are_varied_in_training_only(change):
    modality = made(dataclasses.replace(HPARAMS, **change))
    x = waves(5, 1601)
    mask = np.ones_like(x, bool)

    def represented(training):
        return modality.bottom(x, mask, feature=SOUND, training=training).x.numpy()

    np.testing.assert_array_equal(represented(False), represented(False))
    state = modality.chance.state.numpy()
    first = represented(True)
    if "audio_noise" in change:
        assert np.abs(first - represented(False)).max() > 0.01
    else:  # there is room for the slowest
        assert first.shape[1] > represented(False).shape[1]
    modality.chance.state.assign(state)
    np.testing.assert_array_equal(represented(True), first)


def test_masked_bands_keep_to_the_real_part_and_to_their_settings():
    settings = {"spec_augment_masks": 1, "spec_augment_frequency": 0.0}
    modality = made(dataclasses.replace(HPARAMS, spec_augment_time=0.5, **settings))
    mask = np.arange(101) < np.array([[101], [20]])
    found = modality._spec_augment(tf.ones([2, 101, 20]), tf.constant(mask)).numpy()
    assert found[:, :, 0].tolist() == found[:, :, 19].tolist()
    assert found[1, 20:].all()
    assert (found[:, :, 0] == 0).sum(1)[1] <= 10


def test_sounds_cannot_be_targets():
    with pytest.raises(TypeError, match="'audio' cannot be targets"):
        made(HPARAMS).top(np.zeros((1, 2)), feature=SOUND)


VARIED = dataclasses.replace(
    HPARAMS, audio_speed_change=0.1, audio_noise=0.1, spec_augment=True
)


@pytest.mark.parametrize(
    "hparams", [HPARAMS, PAPER, VARIED], ids=["log-mel", "paper", "varied"]
)
def test_sounds_keep_the_laws_of_modalities(hparams):
    assert not run_modality_test("audio", SOUND, hparams, length=401)

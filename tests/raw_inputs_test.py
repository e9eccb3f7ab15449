import io
import wave

import numpy as np
import pytest
from PIL import Image

from t2t_mm.problem import Feature
from t2t_mm.raw_inputs import make_batch, resampled
from t2t_mm.vocabulary import EOS_ID, ByteVocabulary

WORDS = Feature("text", vocabulary="bytes")
PICTURE = Feature("image", height=13, width=7)
SOUND = Feature("audio", sample_rate=8000)
VOCABULARIES = {"bytes": ByteVocabulary("bytes")}


def batch_of(feature, *inputs):
    return make_batch(feature, inputs, VOCABULARIES)


def png_of(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def wav_of(samples, rate=8000, channels=1, width=2):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return content.getvalue()


def test_texts_become_padded_ids_that_end_in_eos():
    batch = batch_of(WORDS, "ab", "", "abc")
    a, b, c = (ord(letter) + 3 for letter in "abc")
    np.testing.assert_array_equal(
        batch["inputs"], [[a, b, EOS_ID, 0], [EOS_ID, 0, 0, 0], [a, b, c, EOS_ID]]
    )
    np.testing.assert_array_equal(batch["inputs_mask"].sum(1), [3, 1, 4])
    assert batch["inputs"].dtype == np.int32
    assert batch["inputs_mask"].dtype == bool


def test_a_picture_is_the_same_as_array_bytes_and_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (13, 7, 3), np.uint8)
    content = png_of(Image.fromarray(pixels))
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    batch = batch_of(PICTURE, pixels, content, str(path), path, pixels / 255.0)
    assert batch["inputs"].dtype == np.float32
    assert batch["inputs_mask"].shape == (5, 13, 7)
    assert batch["inputs_mask"].all()
    for picture in batch["inputs"]:
        np.testing.assert_allclose(picture, pixels / 255.0, atol=1e-6)


def test_pictures_of_any_size_are_resized_to_the_features():
    sizes = [(1, 1), (26, 14), (5, 31), (40, 1), (1, 40)]
    arrays = [np.full((*size, 3), 51, np.uint8) for size in sizes]
    batch = batch_of(PICTURE, *arrays)
    assert batch["inputs"].shape == (5, 13, 7, 3)
    np.testing.assert_allclose(batch["inputs"], 0.2, atol=1e-5)


def test_what_is_transparent_lies_on_white():
    image = Image.new("RGBA", (7, 13), (0, 0, 0, 0))
    np.testing.assert_allclose(batch_of(PICTURE, png_of(image))["inputs"], 1.0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "I;16"])
def test_pictures_of_every_kind_are_read(mode):
    content = io.BytesIO()
    Image.new(mode, (7, 13)).save(content, "JPEG" if mode == "CMYK" else "PNG")
    assert batch_of(PICTURE, content.getvalue())["inputs"].shape == (1, 13, 7, 3)


def test_a_feature_of_one_channel_gets_grey_pictures():
    grey = Feature("image", height=13, width=7, channels=1)
    pixels = np.random.default_rng(0).integers(0, 256, (13, 7, 1), np.uint8)
    batch = batch_of(grey, pixels, pixels[..., 0], png_of(Image.new("RGB", (3, 2))))
    assert batch["inputs"].shape == (3, 13, 7, 1)
    np.testing.assert_allclose(batch["inputs"][0], pixels / 255.0, atol=1e-6)
    np.testing.assert_allclose(batch["inputs"][1], pixels / 255.0, atol=1e-6)


def test_a_sound_is_the_same_as_array_bytes_and_file(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 101, np.int16)
    content = wav_of(samples)
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    batch = batch_of(SOUND, samples / 32768.0, content, str(path), np.zeros(31))
    assert batch["inputs"].shape == (4, 101)
    assert batch["inputs"].dtype == np.float32
    np.testing.assert_array_equal(batch["inputs_mask"].sum(1), [101, 101, 101, 31])
    for sound in batch["inputs"][:3]:
        np.testing.assert_allclose(sound, samples / 32768.0, atol=1e-6)


def test_two_channels_become_their_mean():
    samples = np.array([[100, 300], [-200, 0]], np.int16)
    batch = batch_of(SOUND, wav_of(samples, channels=2))
    np.testing.assert_allclose(batch["inputs"], [[200 / 32768, -100 / 32768]])


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 44100])
def test_sounds_of_other_rates_are_resampled(rate):
    times = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 440 * times)
    content = wav_of((tone * 20000).astype("<i2"), rate=rate)
    sound = batch_of(SOUND, content)["inputs"][0]
    assert len(sound) == 8000
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) * 20000 / 32768
    np.testing.assert_allclose(sound[200:-200], expected[200:-200], atol=0.01)


def test_a_sound_of_the_right_rate_stays_itself():
    sound = np.arange(7, dtype=np.float32)
    assert resampled(sound, 8000, 8000) is sound


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="No inputs came; expected at least one"):
        batch_of(WORDS)


@pytest.mark.parametrize(
    "feature, value, error, message",
    [
        (WORDS, b"ab", TypeError, r"b'ab' \(bytes\) came as text; expected a str"),
        (PICTURE, 3, TypeError, "int came as picture; expected a path"),
        (SOUND, 3, TypeError, "int came as sound; expected a path"),
        (PICTURE, b"no picture", ValueError, "The picture cannot be read as a picture"),
        (SOUND, b"no sound", ValueError, "The sound cannot be read"),
        (
            SOUND,
            wav_of(np.zeros(3, np.uint8), width=1),
            ValueError,
            "of 8 bits and 3 b",
        ),
        (SOUND, wav_of(np.zeros(0, np.int16)), ValueError, "and 0 bytes of sound"),
    ],
)
def test_what_cannot_be_read_is_refused_by_what_it_is(feature, value, error, message):
    with pytest.raises(error, match=message):
        batch_of(feature, value)


@pytest.mark.parametrize("feature", [PICTURE, SOUND], ids=["picture", "sound"])
def test_a_file_that_is_not_there_or_broken_is_named(feature, tmp_path):
    with pytest.raises(OSError, match="absent.dat"):
        batch_of(feature, str(tmp_path / "absent.dat"))
    path = tmp_path / "broken.dat"
    path.write_bytes(b"broken")
    with pytest.raises(ValueError, match="broken.dat cannot be read"):
        batch_of(feature, str(path))


def test_half_a_picture_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = tmp_path / "half.png"
    path.write_bytes(png_of(Image.fromarray(pixels))[:1000])
    with pytest.raises(ValueError, match="half.png cannot be read as a picture"):
        batch_of(PICTURE, str(path))


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.wav"
    with open(path, "wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(ValueError, match="huge.wav has 67108865 bytes; expected"):
        batch_of(SOUND, str(path))


def test_labels_are_no_inputs():
    labels = Feature("class_label", vocabulary="kinds", labels=("a", "b"))
    with pytest.raises(ValueError, match="Inputs of modality 'class_label' came"):
        batch_of(labels, "a")

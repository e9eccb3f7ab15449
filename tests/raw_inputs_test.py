import io
import pathlib
import wave

import numpy as np
import pytest
import soundfile
from PIL import Image

from t2t_mm.problem import Feature
from t2t_mm.raw_inputs import (
    is_one,
    length_of,
    make_batch,
    plan_batches,
    resampled,
    smallest,
)
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
    opened = io.BytesIO(content)
    batch = batch_of(PICTURE, pixels, content, str(path), path, pixels / 255.0, opened)
    assert batch["inputs"].dtype == np.float32
    assert batch["inputs_mask"].shape == (6, 13, 7)
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
        (WORDS, {"a": 1}, TypeError, r"{'a': 1} \(dict\) came as text; expected a str"),
        (
            WORDS,
            b"a" * 999,
            TypeError,
            r"^b'a+\.\.\.a+' \(bytes\) came as text",
        ),
        (PICTURE, 3, TypeError, "int came as picture; expected a path"),
        (PICTURE, io.StringIO("a"), TypeError, "opened file of str came as pict"),
        (SOUND, 3, TypeError, "int came as sound; expected a path"),
        (PICTURE, b"no picture", ValueError, r"\(cannot identify image file\); exp"),
        (SOUND, b"no sound", ValueError, "The sound cannot be read"),
        (
            SOUND,
            wav_of(np.zeros(0, np.int16)),
            ValueError,
            "The sound holds no samples",
        ),
        (SOUND, np.zeros((2, 9)), ValueError, r"shape \(2, 9\) came as sound; expe"),
        (SOUND, np.array([0.0, np.nan]), ValueError, "values that are not finite"),
        (SOUND, np.zeros(3, complex), TypeError, "An array of complex128 came as sou"),
        (SOUND, (np.zeros(3), 0), ValueError, "sample rate 0; expected a whole numb"),
        (SOUND, (np.zeros(3), 8000.5), ValueError, "sample rate 8000.5; expected a"),
        (SOUND, (np.zeros(601), 1), ValueError, "lasts 601 s; .* at most 600 s. Cut"),
        (PICTURE, np.zeros((2, 2, 2)), ValueError, r"shape \(2, 2, 2\) came as pict"),
        (PICTURE, np.zeros((0, 2)), ValueError, r"An array of shape \(0, 2\) came"),
        (PICTURE, np.full((2, 2), 2.0), ValueError, "from 2.0 to 2.0 came as picture"),
        (PICTURE, np.full((2, 2), np.nan), ValueError, "from nan to nan came as pict"),
        (PICTURE, np.ones((2, 2), np.int64), ValueError, "An array of int64 from 1 to"),
    ],
)
def test_what_cannot_be_read_is_refused_by_what_it_is(feature, value, error, message):
    with pytest.raises(error, match=message):
        batch_of(feature, value)


def test_a_missing_file_is_named():
    for feature in (PICTURE, SOUND):
        with pytest.raises(FileNotFoundError, match="nowhere.png"):
            batch_of(feature, "nowhere.png")


def test_a_pil_image_is_a_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (13, 7, 3), np.uint8)
    batch = batch_of(PICTURE, Image.fromarray(pixels), Image.new("RGBA", (7, 13)))
    np.testing.assert_allclose(batch["inputs"][0], pixels / 255.0, atol=1e-6)
    np.testing.assert_allclose(batch["inputs"][1], 1.0)


def test_a_photo_that_lies_on_its_side_is_turned():
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is the picture's right side
    image = Image.new("RGB", (13, 7))
    image.paste("white", (0, 0, 3, 7))
    image.save(content, "PNG", exif=exif)
    seen = batch_of(PICTURE, content.getvalue())["inputs"][0]
    np.testing.assert_allclose(seen[:3], 1.0)
    np.testing.assert_allclose(seen[4:], 0.0)


def test_sixteen_bits_of_grey_keep_their_shades():
    content = io.BytesIO()
    Image.fromarray(np.full((13, 7), 128 * 257, np.uint16)).save(content, "PNG")
    seen = batch_of(PICTURE, content.getvalue())["inputs"]
    np.testing.assert_allclose(seen, 128 / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_sound_files_of_every_kind_are_read(kind, tmp_path):
    tone = 0.5 * np.sin(np.arange(4000) / 9)
    path = tmp_path / f"tone.{kind}"
    soundfile.write(path, tone, 8000)
    heard = batch_of(SOUND, path)["inputs"][0]
    assert len(heard) == 4000
    lossy = 0.05 if kind == "ogg" else 1e-4
    np.testing.assert_allclose(heard[100:-100], tone[100:-100], atol=lossy)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT"])
def test_wav_files_of_every_width_are_read(subtype):
    content = io.BytesIO()
    tone = 0.5 * np.sin(np.arange(101) / 9)
    soundfile.write(content, tone, 8000, format="WAV", subtype=subtype)
    heard = batch_of(SOUND, content.getvalue())["inputs"][0]
    np.testing.assert_allclose(heard, tone, atol=0.01)


def test_arrays_may_bring_their_rate_and_channels_and_be_integers():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    stereo = np.stack([tone, tone], 1)
    whole = np.rint(tone * 32768).astype(np.int16)
    inputs = [(tone, 16000), (16000, tone), (stereo, 16000), (whole, 16000.0)]
    heard = batch_of(SOUND, *inputs)["inputs"]
    assert heard.shape == (4, 8000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    for one in heard:
        np.testing.assert_allclose(one[100:-100], expected[100:-100], atol=0.01)


def test_one_input_is_told_from_many():
    array = np.zeros(3)
    ones = ["a", b"a", pathlib.Path("a"), array, (array, 8000), (8000, array)]
    ones += [Image.new("L", (1, 1)), 3, None, {"text": "a"}, io.BytesIO(b"a")]
    assert all(is_one(one) for one in ones)
    many = [[], ["a"], ("a", "b"), (array, array), iter("ab"), {"a": 1}.keys()]
    many += [np.array(["a", "b"]), np.array(["a", None], object)]
    assert not any(is_one(one) for one in many)


def test_lengths_are_known_without_decoding(tmp_path):
    path = tmp_path / "tone.flac"
    soundfile.write(path, np.zeros(4000), 16000)
    sounds = [np.zeros(2000), (np.zeros(4000), 16000), path, str(path)]
    lengths = [length_of(SOUND, one) for one in [*sounds, path.read_bytes()]]
    assert lengths == [0.25] * 5
    assert [length_of(WORDS, text) for text in ("", "abc")] == [0, 3]
    unreadable = ["nowhere.wav", b"no sound", 3]
    assert [length_of(SOUND, one) for one in unreadable] == [0, 0, 0]
    assert length_of(PICTURE, "nowhere.png") == 0


def test_inputs_of_like_length_share_a_batch():
    lengths = [5, 1, 4, 2, 3, 0, 6]
    assert plan_batches(WORDS, lengths, 3) == [[5, 1, 3], [4, 2, 0], [6]]
    assert plan_batches(WORDS, [], 3) == []


def test_long_inputs_come_in_smaller_batches():
    assert plan_batches(WORDS, [30_000] * 5, 32) == [[0, 1], [2, 3], [4]]
    assert plan_batches(WORDS, [1, 10**9], 32) == [[0], [1]]
    assert plan_batches(SOUND, [160.0] * 3, 32) == [[0, 1], [2]]
    assert plan_batches(PICTURE, [0] * 40, 32) == [list(range(32)), list(range(32, 40))]


@pytest.mark.parametrize("feature", [WORDS, PICTURE, SOUND])
def test_the_smallest_input_is_an_input(feature):
    assert len(batch_of(feature, smallest(feature))["inputs"]) == 1

import io
import wave

import numpy as np
import pytest
import soundfile
from fake_datasets import png, sphere
from PIL import Image

from t2t_mm import media


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def encoded(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options)
    return buffer.getvalue()


def samples_of(content):
    with wave.open(io.BytesIO(content)) as sound:
        form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
        return form, np.frombuffer(sound.readframes(sound.getnframes()), "<i2")


COLOURS = np.random.default_rng(0).integers(0, 255, (5, 3, 3)).astype(np.uint8)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_compressed_picture_stays_as_it_is(form, tmp_path):
    content = encoded(COLOURS, format=form)
    path = tmp_path / "picture"
    path.write_bytes(content)
    for value in (content, str(path), path, {"bytes": content, "path": None}):
        assert media.picture_file(value) == content


@pytest.mark.parametrize("form", ["BMP", "GIF", "WEBP", "TIFF"])
def test_other_formats_become_png(form):
    options = {"lossless": True} if form == "WEBP" else {}
    found = media.picture_file(encoded(COLOURS, format=form, **options))
    assert found.startswith(b"\x89PNG")
    if form != "GIF":  # which has 256 colours only
        np.testing.assert_array_equal(opened(found), COLOURS)


def test_what_is_transparent_becomes_white():
    clear = np.dstack([COLOURS, np.zeros((5, 3), np.uint8)])
    assert (opened(media.picture_file(encoded(clear, format="PNG"))) == 255).all()
    clear[..., 3] = 255
    found = opened(media.picture_file(encoded(clear, format="PNG")))
    np.testing.assert_array_equal(found, COLOURS)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_photo_that_lies_on_its_side_is_turned(form):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is the picture's right side
    lying = encoded(COLOURS, format=form, exif=exif)
    found = opened(media.picture_file(lying))
    np.testing.assert_array_equal(found, np.rot90(opened(lying), -1))
    exif[0x0112] = 1
    standing = encoded(COLOURS, format=form, exif=exif)
    assert media.picture_file(standing) == standing


def test_arrays_become_pictures_of_the_same_pixels():
    np.testing.assert_array_equal(opened(media.picture_file(COLOURS)), COLOURS)
    grey = COLOURS[..., :1]
    found = opened(media.picture_file(grey, channels=1))
    np.testing.assert_array_equal(found, grey[..., 0])


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="cannot be read .* Replace it"):
        media.picture_file(b"no picture")
    with pytest.raises(ValueError, match=r"float64 \[2\] came as a picture; uint8"):
        media.picture_file(np.zeros(2))
    with pytest.raises(TypeError, match="int came as a picture; expected a path"):
        media.picture_file(7)
    with pytest.raises(ValueError, match="cannot be read"):
        media.picture_file(png(COLOURS)[:60])


SOUND = (np.sin(np.arange(1601) / 9) * 9000).astype(np.int16)


def test_a_fitting_wav_file_stays_as_it_is():
    content = media.wav_file(SOUND / 32768, 16000)
    assert media.sound_file(content, sample_rate=16000) == content
    form, samples = samples_of(content)
    assert form == (1, 2, 16000)
    np.testing.assert_array_equal(samples, SOUND)


def test_flac_arrays_and_spheres_become_the_same_wav_file():
    buffer = io.BytesIO()
    soundfile.write(buffer, SOUND, 16000, format="FLAC")
    for value in (
        buffer.getvalue(),
        (SOUND, 16000),
        (SOUND / 32768, 16000),
        {"array": SOUND / 32768, "sampling_rate": 16000},
        sphere(SOUND),
    ):
        _, samples = samples_of(media.sound_file(value, sample_rate=16000))
        np.testing.assert_array_equal(samples, SOUND)


def test_channels_are_averaged():
    both = np.stack([SOUND, np.zeros_like(SOUND)], 1) / 32768
    _, samples = samples_of(media.sound_file((both, 16000), sample_rate=16000))
    np.testing.assert_allclose(samples, SOUND / 2, atol=1)


def test_another_rate_keeps_pitch_and_length():
    seconds = np.arange(4000) / 8000
    tone = np.sin(2 * np.pi * 440 * seconds) / 2
    form, samples = samples_of(media.sound_file((tone, 8000), sample_rate=16000))
    assert form[2] == 16000
    assert len(samples) == 8000
    loudest = np.abs(np.fft.rfft(samples)).argmax() * 16000 / 8000
    assert loudest == 440


def test_a_sphere_header_is_read():
    fields = media.sphere_header(sphere(SOUND))
    assert fields["sample_rate"] == "16000"
    assert fields["sample_count"] == "1601"
    with pytest.raises(ValueError, match="a NIST sphere header was expected"):
        media.sphere_header(b"RIFF")


def test_a_sphere_file_that_shorten_compressed_is_refused_with_a_remedy():
    content = sphere(SOUND, coding="pcm,embedded-shorten-v2.00")
    with pytest.raises(ValueError, match="shorten-v2.00.*sph2pipe -f wav NAME.wv1"):
        media.sound_file(content, sample_rate=16000)


def test_what_is_no_sound_is_refused():
    with pytest.raises(ValueError, match="a file that libsndfile knows"):
        media.sound_file(b"no sound", sample_rate=16000)

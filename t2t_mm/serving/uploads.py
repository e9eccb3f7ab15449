"""Bytes that a stranger sent -> a picture or a sound as a numpy array.

Sizes are read from the file's head and checked before anything is unpacked. A string
from a request never becomes a path.
"""

import base64
import binascii
import contextlib
import io
import os

import numpy as np

from t2t_mm.media import reason_of, resampled, upright
from t2t_mm.problem import AUDIO, IMAGE
from t2t_mm.serving.limits import (
    MALFORMED,
    NOT_READABLE,
    TOO_LARGE,
    Limits,
    Refused,
)

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
SOUND_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF")
# No network here looks at more; a picture is made smaller before it is kept.
_LONGEST_SIDE = 1024
_LOWEST_RATE, _HIGHEST_RATE = 4_000, 192_000
_MOST_CHANNELS = 8


def make_room(folder: str, most_bytes: int) -> None:
    """Deletes the oldest files in a folder until the rest has few enough bytes.

    What visitors upload to the page lies there for an hour; a flood must not fill the
    disk.
    """
    found = []
    for place, _, names in os.walk(folder):
        for path in (os.path.join(place, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                facts = os.stat(path)
                found.append((facts.st_mtime_ns, facts.st_size, path))
    for _, size, path in sorted(found, reverse=True):
        most_bytes -= size
        if most_bytes < 0:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def checked_text(text: str, limits: Limits) -> str:
    """Gives a text that is short enough, can be written as UTF-8 and says something.

    Raises:
      Refused: if it is not.
    """
    if len(text) > limits.max_text_characters:
        raise Refused(
            TOO_LARGE,
            f"A text of {len(text)} characters came; expected at most "
            f"{limits.max_text_characters}. Send it in parts.",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused(
            NOT_READABLE,
            f"A text with half a surrogate pair came, at character {error.start}; "
            "expected Unicode. Send whole characters.",
        ) from error
    if not text.strip():
        raise Refused(
            NOT_READABLE,
            "An empty text came; expected at least one word. Type something.",
        )
    return text


def from_base64(text: str, kind: str, limits: Limits) -> bytes:
    """Gives the bytes of base64 or of a data URI.

    Raises:
      Refused: if it is too long or is no base64.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    if len(text) > limits.max_upload_bytes * 4 // 3 + 4:
        raise _too_many_bytes(len(text) * 3 // 4, kind, limits)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(
            MALFORMED,
            f"The {kind} is no base64 ({error}); expected the bytes of a file in "
            "standard base64 without line ends. Encode it: base64 -w0 FILE.",
        ) from error


def decoded(content: bytes, modality: str, sample_rate: int, limits: Limits):
    """Gives the array of a picture or a sound, by the modality that is wanted."""
    if modality == IMAGE:
        return picture(content, limits)
    if modality == AUDIO:
        return sound(content, sample_rate, limits)
    raise Refused(
        NOT_READABLE,
        f"A file came for inputs of modality '{modality}'; expected text. Send text.",
    )


def _too_many_bytes(size: int, kind: str, limits: Limits) -> Refused:
    return Refused(
        TOO_LARGE,
        f"A {kind} of {size / 2**20:.1f} MB came; expected at most "
        f"{limits.max_upload_megabytes:g} MB. Make it smaller.",
    )


def picture(content: bytes, limits: Limits) -> np.ndarray:
    """Gives uint8 [H, W, 3]: upright, on white, at most 1,024 pixels a side.

    Raises:
      Refused: if it is no whole picture of a usual format, or too large.
    """
    from PIL import Image

    if len(content) > limits.max_upload_bytes:
        raise _too_many_bytes(len(content), "picture", limits)
    try:
        with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as image:
            _check_pixels(image.width, image.height, limits)
            image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))
            image.load()
            image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), reducing_gap=2.0)
            rgba = upright(image).convert("RGBA")
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused(
            TOO_LARGE,
            f"A picture of far too many pixels came; expected at most "
            f"{limits.max_picture_megapixels:g} million. Make it smaller.",
        ) from error
    # What Pillow raises on damaged files is an open list: its plugins read them.
    except Exception as error:
        raise Refused(
            NOT_READABLE,
            f"A picture came that cannot be read ({reason_of(error)}); expected a "
            f"whole file, one of {', '.join(PICTURE_FORMATS)}. Convert or replace it.",
        ) from error
    white = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_picture_megapixels * 1e6:
        raise Refused(
            TOO_LARGE,
            f"A picture of {width} x {height} pixels came; expected at most "
            f"{limits.max_picture_megapixels:g} million. Make it smaller.",
        )


def sound(content: bytes, sample_rate: int, limits: Limits) -> np.ndarray:
    """Gives float32 [T] in -1..1: one channel at a sample rate (Hz).

    Raises:
      Refused: if it is no sound of a usual format, or too long.
    """
    import soundfile

    if len(content) > limits.max_upload_bytes:
        raise _too_many_bytes(len(content), "sound", limits)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.format not in SOUND_FORMATS:
                raise ValueError(f"format {file.format}")
            rate, channels = file.samplerate, file.channels
            _check_sound(rate, channels)
            most = int(limits.max_sound_seconds * rate)
            # One more than allowed, whatever the head says: heads may lie.
            samples = file.read(most + 1, dtype="float32", always_2d=True)
    except Refused:
        raise
    # libsndfile's errors, and whatever a damaged head makes of the reader.
    except Exception as error:
        raise Refused(
            NOT_READABLE,
            f"A sound came that cannot be read ({reason_of(error)}); expected a whole "
            "file: WAV, FLAC, OGG, MP3 or AIFF. Convert or replace it.",
        ) from error
    if len(samples) > most:
        raise Refused(
            TOO_LARGE,
            f"A sound of more than {limits.max_sound_seconds:g} seconds came; expected "
            "at most that. Cut it.",
        )
    return _mono(samples, rate, sample_rate)


def _check_sound(rate: int, channels: int) -> None:
    if not _LOWEST_RATE <= rate <= _HIGHEST_RATE or channels > _MOST_CHANNELS:
        raise Refused(
            NOT_READABLE,
            f"A sound of {channels} channels at {rate} Hz came; expected at most "
            f"{_MOST_CHANNELS} channels and {_LOWEST_RATE} to {_HIGHEST_RATE} Hz. "
            "Convert it.",
        )


def _mono(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    mono = samples.mean(1)
    if len(mono) < rate // 20 or not np.isfinite(mono).all():
        raise Refused(
            NOT_READABLE,
            f"A sound of {len(mono)} samples came, or one that is not finite; expected "
            "at least a twentieth of a second. Record it again.",
        )
    return np.clip(resampled(mono, rate, wanted), -1.0, 1.0)

"""Pictures and sounds in whatever form they come -> the bytes that records hold.

Called by the problem kinds and by the zoo. A compressed picture stays as it is, and so
is a WAV file that already has the right form; all else is converted once, in
mm-datagen. Pillow, soundfile and scipy are imported where they are used.
"""

import io
import os
import re
import struct
import wave
from typing import Any

import numpy as np

SPHERE_MARK = b"NIST_1A"
# Where the top and the left of the scene are; EXIF 2.3, section 4.6.4.
_ORIENTATION = 0x0112


def content_of(value: Any, kind: str) -> bytes:
    """Gives the bytes of a file that came as bytes, as a path, or as Arrow holds one.

    Args:
      value: bytes, a path, or {"bytes": ..., "path": ...}, as Hugging Face stores it.
      kind: "picture" or "sound", for messages.

    Raises:
      TypeError: if it is none of these.
      OSError: if the file cannot be read.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | os.PathLike):
        with open(value, "rb") as file:
            return file.read()
    raise TypeError(
        f"{type(value).__name__} came as a {kind}; expected a path, the bytes of a "
        "file or a numpy array. Convert it."
    )


def picture_file(value: Any, *, channels: int = 3) -> bytes:
    """Gives a PNG or JPEG file without transparency.

    PNG and JPEG files stay as they are; what is transparent is pasted on white; other
    formats, and photos that lie on their side, become PNG.

    Args:
      value: a path, bytes of a file, or uint8 [H, W], [H, W, 1] or [H, W, 3].
      channels: of the feature that it is for.

    Raises:
      TypeError, ValueError: if it is no picture.

    Example:
      >>> picture_file(np.zeros((2, 3), np.uint8))[:4]
      b'\\x89PNG'
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.ndim not in (2, 3):
            raise ValueError(
                f"An array of {value.dtype} {list(value.shape)} came as a picture; "
                "uint8 [H, W] or [H, W, 1 or 3] was expected. Convert it."
            )
        flat = value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value
        return _png(Image.fromarray(flat))
    content = content_of(value, "picture")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            turned = upright(picture)
            is_clear = picture.mode in ("RGBA", "LA", "PA") or (
                "transparency" in picture.info
            )
            is_known = picture.format in ("PNG", "JPEG", "MPO")
            if is_known and turned is picture and not is_clear:
                picture.verify()  # a PNG that ends early; costs no decoding
                return content
            if is_clear:
                rgba = turned.convert("RGBA")
                white = Image.new("RGBA", rgba.size, "white")
                return _png(Image.alpha_composite(white, rgba).convert("RGB"))
            return _png(turned.convert("L" if channels == 1 else "RGB"))
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,  # what Pillow raises of a broken PNG
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(
            f"The picture cannot be read ({reason_of(error)}); a whole picture file "
            "that Pillow knows was expected. Replace it."
        ) from error


def upright(picture):
    """Gives a `PIL.Image.Image` turned as its EXIF data says, or itself.

    Cameras and phones save what the sensor saw, and which side is up.
    """
    from PIL import Image

    turns = Image.Transpose
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture) -> int:
    """Gives 1 to 8; 1 also where the EXIF data is damaged: no other reader minds."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif") or b"")
        number = exif.get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, struct.error):
        return 1
    return number if isinstance(number, int) else 1


def _png(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def sound_file(value: Any, *, sample_rate: int) -> bytes:
    """Gives a WAV file with one channel of 16-bit PCM.

    Args:
      value: a path or bytes of any file that libsndfile reads (WAV, FLAC, OGG, MP3,
        NIST sphere without shorten); {"array": ..., "sampling_rate": Hz}; or
        (samples, Hz) with samples int16 or float in -1..1, [T] or [T, channels].
      sample_rate: Hz wanted; another rate is resampled, channels are averaged.

    Raises:
      TypeError, ValueError: if it is no sound.

    Example:
      >>> sound_file((np.zeros(80), 8000), sample_rate=16000)[:4]
      b'RIFF'
    """
    if isinstance(value, dict) and value.get("array") is not None:
        value = (np.asarray(value["array"]), int(value["sampling_rate"]))
    if isinstance(value, tuple):
        samples, rate = np.asarray(value[0]), int(value[1])
    else:
        content = content_of(value, "sound")
        if _fits(content, sample_rate):
            return content
        samples, rate = _read_sound(content)
    if np.issubdtype(samples.dtype, np.integer):
        samples = samples / 32768.0
    samples = samples.astype(np.float32)
    if samples.ndim == 2:
        samples = samples.mean(1)
    if rate != sample_rate:
        samples = resampled(samples, rate, sample_rate)
    return wav_file(samples, sample_rate)


def _fits(content: bytes, sample_rate: int) -> bool:
    try:
        with wave.open(io.BytesIO(content)) as sound:
            form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            return form == (1, 2, sample_rate)
    except (wave.Error, EOFError):
        return False


def _read_sound(content: bytes) -> tuple[np.ndarray, int]:
    import soundfile

    check_sphere(content)
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"The sound cannot be read ({reason_of(error)}); a file that libsndfile "
            "knows (WAV, FLAC, OGG, MP3) was expected. Convert it, with sox or ffmpeg "
            "for example."
        ) from error
    return samples, rate


def check_sphere(content: bytes) -> None:
    """Refuses a NIST sphere file whose samples are compressed.

    Raises:
      ValueError: if the header names a compression, such as shorten.
    """
    if not content.startswith(SPHERE_MARK):
        return
    fields = sphere_header(content)
    coding = fields.get("sample_coding", "pcm")
    if "embedded" in coding or "shorten" in coding:
        raise ValueError(
            f"A NIST sphere file of sample_coding '{coding}' came; uncompressed "
            "samples were expected. Convert it beside the original: "
            "sph2pipe -f wav NAME.wv1 NAME.wav (sph2pipe is free, from LDC's pages); "
            "a .wav file beside a .wv1 file is read instead of it."
        )


def sphere_header(content: bytes) -> dict[str, str]:
    """Gives the fields of a NIST sphere header: {"sample_rate": "16000", ...}.

    Raises:
      ValueError: if there is no such header.

    Source: the header as NIST's SPHERE 2.6 documents it: two lines of 8 bytes, then
    `name -type value` a line up to `end_head`.
    """
    lines = content[:1024].decode("latin-1").splitlines()
    if lines[:1] != ["NIST_1A"] or "end_head" not in [one.strip() for one in lines]:
        raise ValueError(
            f"The file begins with {content[:8]!r}; a NIST sphere header was expected. "
            "Replace the file."
        )
    fields = {}
    for line in lines[2:]:
        words = line.split(maxsplit=2)
        if words[:1] == ["end_head"]:
            break
        if len(words) == 3:
            fields[words[0]] = words[2].strip()
    return fields


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Gives the sound [T] at another sample rate (Hz), band-limited."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    divisor = np.gcd(rate, wanted)
    up, down = wanted // divisor, rate // divisor
    return resample_poly(samples, up, down).astype(np.float32)


def reason_of(error: BaseException) -> str:
    """Gives what a library says of a file: one line, without addresses of objects.

    Example:
      >>> reason_of(OSError("cannot identify image file <_io.BytesIO object at 0x7f>"))
      'cannot identify image file'
    """
    text = (str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r" <[^>]* at 0x[0-9a-f]+>:?", "", text)[:120].rstrip(" .")


def wav_file(samples: np.ndarray, sample_rate: int) -> bytes:
    """Gives float [T] in -1..1, clipped, as a mono 16-bit PCM WAV file."""
    # 32768 and a clip, so that 16-bit samples come back as they were.
    pcm = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue()

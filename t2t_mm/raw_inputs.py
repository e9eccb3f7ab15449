"""What a user types, a file holds or a program has -> one padded batch of inputs.

The counterpart of the input pipeline for things that are in no TFRecord; both resize
pictures with the same function. `inference` sorts inputs by `length_of`, cuts them with
`plan_batches` and reads each batch with `make_batch` when its turn comes.
"""

import io
import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t2t_mm.media import reason_of, resampled, upright
from t2t_mm.problem import AUDIO, IMAGE, TEXT, Feature
from t2t_mm.vocabulary import EOS_ID, Vocabulary

# Larger files are no picture or utterance that a model here was trained on.
MAX_FILE_BYTES = 64 * 2**20
MAX_SECONDS = 600.0
# A batch of long inputs holds fewer of them: characters of text, seconds of sound.
_MOST_PADDED = {TEXT: 65_536, AUDIO: 320.0}


def is_one(inputs: Any) -> bool:
    """Tells one input from many: a list is many, as are tuples, iterators, text arrays.

    A sound with its sample rate, as a tuple, is one.
    """
    if _is_sound_with_rate(inputs):
        return True
    if isinstance(inputs, np.ndarray):  # of numbers, a picture or a sound
        return inputs.ndim == 0 or inputs.dtype.kind not in "OSU"
    if isinstance(inputs, str | bytes | os.PathLike | Mapping):
        return True
    return hasattr(inputs, "read") or not hasattr(inputs, "__iter__")


def length_of(feature: Feature, one: Any) -> float:
    """Gives about how long an input is, without decoding it: to sort inputs by.

    Characters of a text, seconds of a sound; 0 for a picture, and for what cannot be
    read, which `make_batch` will say.
    """
    if feature.modality == TEXT and isinstance(one, str):
        return len(one)
    if feature.modality != AUDIO:
        return 0
    if isinstance(one, np.ndarray):
        return len(one) / feature.sample_rate
    if _is_sound_with_rate(one):
        samples, rate = _samples_and_rate(one)
        return len(samples) / max(rate, 1)
    if isinstance(one, bytes | str | os.PathLike):
        import soundfile

        try:
            file = io.BytesIO(one) if isinstance(one, bytes) else os.fspath(one)
            return soundfile.info(file).duration
        except (RuntimeError, OSError, TypeError):
            return 0
    return 0


def plan_batches(
    feature: Feature, lengths: Sequence[float], batch_size: int
) -> list[list[int]]:
    """Groups inputs of like length, the shortest first.

    Args:
      feature: of the inputs.
      lengths: as `length_of` gives.
      batch_size: most inputs in a batch; long ones come in smaller batches.

    Returns:
      The indices of each batch.
    """
    most_padded = _MOST_PADDED.get(feature.modality, float("inf"))
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        number = len(batches[-1]) + 1 if batches else 0
        if not number or number > batch_size or number * lengths[index] > most_padded:
            batches.append([])
        batches[-1].append(index)
    return batches


def smallest(feature: Feature) -> Any:
    """Gives an input that `make_batch` takes, as small as may be: to warm up with."""
    if feature.modality == IMAGE:
        return np.zeros((1, 1, 3), np.uint8)
    if feature.modality == AUDIO:
        return np.zeros(feature.sample_rate // 2, np.float32)
    return ""


def make_batch(
    feature: Feature,
    inputs: Sequence[Any],
    vocabularies: Mapping[str, Vocabulary],
) -> dict[str, np.ndarray]:
    """Gives {"inputs", "inputs_mask"} as the input pipeline would.

    Args:
      feature: the problem's inputs.
      inputs: strings for text; for pictures and sounds paths of files, their bytes, or
        what `picture_of` and `sound_of` take.
      vocabularies: by name.

    Raises:
      ValueError, TypeError: if an input cannot be read; names it.
    """
    if not inputs:
        raise ValueError("No inputs came; expected at least one. Give some.")
    if feature.modality == TEXT:
        words = vocabularies[str(feature.vocabulary)]
        encode = words.spell_batch if feature.spelled else words.encode_batch
        return _padded([_text_row(text, encode) for text in inputs])
    if feature.modality == IMAGE:
        pictures = _pictures(inputs, feature)
        return {
            "inputs": pictures,
            "inputs_mask": np.ones(pictures.shape[:3], bool),
        }
    if feature.modality == AUDIO:
        return _padded([sound_of(one, feature.sample_rate) for one in inputs])
    raise ValueError(
        f"Inputs of modality '{feature.modality}' came; expected text, image or audio. "
        "Write a problem with such inputs."
    )


def _padded(rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    longest = max(len(row) for row in rows)
    values = np.zeros((len(rows), longest), rows[0].dtype)
    mask = np.zeros((len(rows), longest), bool)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
        mask[i, : len(row)] = True
    return {"inputs": values, "inputs_mask": mask}


def _text_row(text: Any, encode: Callable) -> np.ndarray:
    if not isinstance(text, str):
        raise TypeError(
            f"{reprlib.repr(text)} ({type(text).__name__}) came as text; expected a "
            "str. Decode bytes as UTF-8 first."
        )
    return np.array([*encode([text])[0], EOS_ID], np.int32)


def _content(one: Any, kind: str) -> bytes:
    """Gives the bytes of a file that came by path, opened, or as bytes."""
    if hasattr(one, "read"):
        one = one.read()
        if not isinstance(one, bytes):
            raise TypeError(
                f"An opened file of {type(one).__name__} came as {kind}; expected one "
                "of bytes. Open it with mode 'rb'."
            )
    if isinstance(one, bytes):
        return one
    if not isinstance(one, str | os.PathLike):
        raise TypeError(
            f"{type(one).__name__} came as {kind}; expected a path, the bytes of a "
            "file or a numpy array. Convert it."
        )
    if not os.path.isfile(one):
        raise FileNotFoundError(
            f"{os.fspath(one)} is not a file; expected the path of a {kind}. Check it."
        )
    size = os.path.getsize(one)
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{one} has {size} bytes; expected a {kind} file of at most "
            f"{MAX_FILE_BYTES}. Make it smaller."
        )
    with open(one, "rb") as file:
        return file.read()


def _name(one: Any, otherwise: str) -> str:
    return os.fspath(one) if isinstance(one, str | os.PathLike) else otherwise


def _pictures(inputs: Sequence[Any], feature: Feature) -> np.ndarray:
    """Gives float32 [B, H, W, C] in 0..1 at the feature's size."""
    from t2t_mm.input_pipeline import decode_image

    files = [_png(picture_of(one, feature.channels)) for one in inputs]
    return np.stack([decode_image(file, feature).numpy() for file in files])


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def picture_of(one: Any, channels: int) -> Any:
    """Gives a picture without transparency: on white, as the training pictures are.

    Args:
      one: a path or the bytes of a file of any format that Pillow reads, a
        `PIL.Image.Image`, or an array [H, W] or [H, W, C], C of 1, 3 or 4: uint8, or
        float in 0..1.
      channels: 1 for grey, 3 for colours.

    Returns:
      A `PIL.Image.Image` of mode L or RGB.

    Raises:
      ValueError, TypeError: if it cannot be read; names it.
    """
    from PIL import Image

    name = _name(one, "The picture")
    try:
        if isinstance(one, np.ndarray):
            image = Image.fromarray(_pixels(one))
        elif isinstance(one, Image.Image):
            image = one
        else:
            image = Image.open(io.BytesIO(_content(one, "picture")))
        image.load()
        image = upright(image)
        if image.mode.startswith("I"):  # 16 bits of grey
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        rgba = image.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, FileNotFoundError) or getattr(error, "errno", None):
            raise
        raise ValueError(
            f"{name} cannot be read as a picture ({reason_of(error)}); expected a "
            "whole PNG or JPEG file. Convert or replace it."
        ) from error
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("L" if channels == 1 else "RGB")


def _pixels(array: np.ndarray) -> np.ndarray:
    """Gives uint8 [H, W] or [H, W, C]."""
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not is_picture or not array.size:
        raise ValueError(
            f"An array of shape {array.shape} came as picture; expected [H, W] or "
            "[H, W, C] with C of 1, 3 or 4. Several pictures come as a list of arrays."
        )
    if array.dtype != np.uint8:
        is_number = np.issubdtype(array.dtype, np.floating) or array.dtype == bool
        if not is_number or not 0 <= array.min() <= array.max() <= 1:
            raise ValueError(
                f"An array of {array.dtype} from {array.min()} to {array.max()} came "
                "as picture; expected uint8, or float in 0 to 1. Scale it."
            )
        array = np.rint(array * 255).astype(np.uint8)
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _is_sound_with_rate(one: Any) -> bool:
    """Tells (samples, rate), as soundfile gives, or (rate, samples), as scipy does."""
    if not isinstance(one, tuple) or len(one) != 2:
        return False
    number = [isinstance(part, int | float | np.number) for part in one]
    return sum(number) == 1 and any(isinstance(part, np.ndarray) for part in one)


def _samples_and_rate(one: tuple[Any, Any]) -> tuple[np.ndarray, int]:
    samples, rate = one if isinstance(one[0], np.ndarray) else (one[1], one[0])
    if rate != int(rate) or rate < 1:
        raise ValueError(
            f"A sound came with sample rate {rate}; expected a whole number of samples "
            "per second. Correct it."
        )
    return samples, int(rate)


def sound_of(one: Any, sample_rate: int) -> np.ndarray:
    """Gives float32 [T] in -1..1 at a sample rate, channels averaged.

    Args:
      one: a path or the bytes of a WAV, FLAC, OGG or MP3 file; (samples, rate) with an
        array; or an array of the wanted rate. Arrays are [T] or [T, C], float in -1..1
        or integers over their whole range.
      sample_rate: the wanted one, Hz.

    Raises:
      ValueError, TypeError: if it cannot be read; names it.
    """
    name = _name(one, "The sound")
    if isinstance(one, np.ndarray):
        samples, rate = one, sample_rate
    elif _is_sound_with_rate(one):
        samples, rate = _samples_and_rate(one)
    else:
        samples, rate = _decoded(_content(one, "sound"), name)
    samples = _waveform(samples, name)
    if not len(samples):
        raise ValueError(
            f"{name} holds no samples; expected a sound. Record it again, or skip it."
        )
    if len(samples) > MAX_SECONDS * rate:
        raise ValueError(
            f"{name} lasts {len(samples) / rate:g} s; expected a sound of at most "
            f"{MAX_SECONDS:g} s. Cut it into pieces."
        )
    return resampled(samples, rate, sample_rate)


def _decoded(content: bytes, name: str) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate = file.samplerate
            # One more than allowed, which is refused: a small file may hold hours.
            most = int(MAX_SECONDS * rate) + 1
            return file.read(most, dtype="float32", always_2d=True), rate
    except (RuntimeError, TypeError) as error:  # soundfile's own errors are such
        raise ValueError(
            f"{name} cannot be read ({reason_of(error)}); expected a WAV, FLAC, OGG or "
            "MP3 file with some sound. Convert it, with sox for example."
        ) from error


def _waveform(samples: np.ndarray, name: str) -> np.ndarray:
    """Gives float32 [T] of an array of any number type and few channels."""
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > 8):
        raise ValueError(
            f"An array of shape {samples.shape} came as sound; expected [T], or [T, C] "
            "with at most 8 channels. Several sounds come as a list of arrays."
        )
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.signedinteger):
        samples = samples / -float(np.iinfo(samples.dtype).min)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise TypeError(
            f"An array of {samples.dtype} came as sound; expected float in -1 to 1 or "
            "integers. Convert it."
        )
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{name} holds values that are not finite; expected numbers in -1 to 1. "
            "Replace them."
        )
    return samples.mean(1) if samples.ndim == 2 else samples

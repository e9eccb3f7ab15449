"""Single examples in human form: what went in, as text or as a file to look at.

`evaluation` writes the pictures and sounds of its sample outputs under a run's folder
with it; the report and the commands show them. Arrays are those of one example of a
batch: image float [H, W, C] in 0..1, audio float [T] in -1..1, text int [L].
"""

import os
from typing import Any

import numpy as np

from t2t_mm.files import write_atomically
from t2t_mm.media import wav_file
from t2t_mm.problem import AUDIO, CLASS_LABEL, IMAGE, TEXT, Feature

FOLDER = "samples"
_SUFFIXES = {IMAGE: ".png", AUDIO: ".wav"}


def as_text(feature: Feature, value: Any, vocabularies: Any) -> str:
    """Gives a text, the name of a label, or "" for a picture or a sound.

    Args:
      feature: what the column is.
      value: the example's array.
      vocabularies: the vocabularies by name.
    """
    if feature.modality == TEXT:
        ids = [int(i) for i in np.asarray(value).reshape(-1)]
        return vocabularies[feature.vocabulary].decode(ids)
    if feature.modality == CLASS_LABEL:
        return feature.labels[int(np.asarray(value).reshape(-1)[0])]
    return ""


def save_file(
    feature: Feature, value: Any, mask: Any, run_dir: str, name: str
) -> str | None:
    """Writes a picture as PNG or a sound as WAV, without their padding.

    Args:
      feature: what the column is.
      value, mask: the example's arrays.
      run_dir: the run; the file goes to its folder `samples`.
      name: of the file, without suffix.

    Returns:
      The path from the run's folder on, or None for what is shown as text.
    """
    if feature.modality not in _SUFFIXES:
        return None
    value, mask = np.asarray(value), np.asarray(mask)
    if feature.modality == IMAGE:
        height, width = int(mask.any(1).sum()), int(mask.any(0).sum())
        content = png_bytes(value[:height, :width])
    else:
        content = wav_file(value[: int(mask.sum())], feature.sample_rate)
    file_name = name + _SUFFIXES[feature.modality]
    write_atomically(os.path.join(run_dir, FOLDER, file_name), content)
    return f"{FOLDER}/{file_name}"


def png_bytes(image: np.ndarray) -> bytes:
    """Gives a PNG file of a picture, float [H, W, C] in 0..1; C is 1, 3 or 4."""
    import tensorflow as tf

    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return bytes(tf.io.encode_png(pixels).numpy())

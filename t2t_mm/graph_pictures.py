"""PNG and JPEG files -> pictures as graph ops, the same numbers as `raw_inputs` gives.

Pillow, which `raw_inputs` reads with, and TensorFlow decode alike if TensorFlow is told
to be accurate; transparency is computed here as Pillow does, in integers.
"""

import tensorflow as tf

from t2t_mm.graph_orientation import upright
from t2t_mm.input_pipeline import grey, resized
from t2t_mm.problem import Feature

_PNG = list(b"\x89PNG\r\n\x1a\n")
_JPEG = [0xFF, 0xD8, 0xFF]
_HEADER_BYTES = 26  # of a PNG: signature, then size, bits and kind of colours


def decode(
    content: tf.Tensor, feature: Feature, most_pixels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a file, turns it upright, lays it on white and resizes it.

    Args:
      content: string, the file.
      feature: whose size and channels are wanted.
      most_pixels: larger pictures are not decoded.

    Returns:
      (float32 [H, W, C] in 0..1, a message or ""). The op fails for a broken file.
    """
    padded = tf.strings.join([content, "\0" * _HEADER_BYTES])
    header = tf.io.decode_raw(tf.strings.substr(padded, 0, _HEADER_BYTES), tf.uint8)
    header = tf.ensure_shape(tf.cast(header, tf.int64), [_HEADER_BYTES])
    is_png = tf.reduce_all(tf.equal(header[: len(_PNG)], _PNG))
    is_jpeg = tf.reduce_all(tf.equal(header[: len(_JPEG)], _JPEG))
    num_pixels = tf.cond(
        is_jpeg,
        lambda: tf.reduce_prod(tf.image.extract_jpeg_shape(content, tf.int64)[:2]),
        lambda: _number(header[16:20]) * _number(header[20:24]),
    )
    is_kind = is_png | is_jpeg
    fits = num_pixels <= most_pixels
    pixels = tf.cond(
        is_kind & fits,
        lambda: tf.cond(
            is_jpeg,
            lambda: upright(
                tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"), content
            ),
            lambda: _on_white(content, header[24]),
        ),
        lambda: tf.fill([1, 1, 3], tf.constant(255, tf.uint8)),
    )
    if feature.channels == 1:
        pixels = grey(pixels)
    elif feature.channels == 4:
        pixels = tf.pad(pixels, [[0, 0], [0, 0], [0, 1]], constant_values=255)
    error = tf.where(fits, "", f"The picture has over {most_pixels} pixels. Shrink it.")
    error = tf.where(is_kind, error, "The file is neither PNG nor JPEG. Convert it.")
    return resized(pixels, feature), error


def _number(digits: tf.Tensor) -> tf.Tensor:
    """Gives the number that 4 bytes are, the highest first."""
    return tf.reduce_sum(digits * tf.constant([2**24, 2**16, 2**8, 1], tf.int64))


def _on_white(content: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Gives uint8 [H, W, 3] of a PNG of some bits per sample."""
    pixels = tf.io.decode_png(content, 4)
    alpha = pixels[..., 3:]
    # libpng, as TensorFlow calls it, counts opaque by the bits of the file.
    opaque = tf.bitwise.left_shift(tf.constant(1, tf.int64), tf.minimum(bits, 8)) - 1
    is_opaque = tf.reduce_all(tf.equal(tf.cast(alpha, tf.int64), opaque))
    return tf.cond(
        is_opaque, lambda: pixels[..., :3], lambda: _blended(pixels[..., :3], alpha)
    )


def _blended(pixels: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Gives uint8 [H, W, 3], over white.

    Source: Pillow, AlphaComposite.c: 7 bits of precision, divided by 255 with shifts.
    """
    x, alpha = tf.cast(pixels, tf.int32), tf.cast(alpha, tf.int32)
    x = (x * alpha + 255 * (255 - alpha)) * 128 + 128 * 128
    x += tf.bitwise.right_shift(x, 8)
    return tf.cast(tf.bitwise.right_shift(x, 8 + 7), tf.uint8)

"""JPEG files of cameras and phones -> upright pictures, as graph ops.

What `media.upright` does in Python: the file says in its EXIF data where the top and
the left of the scene are. Of what cannot be read, pictures stay as they are.

Source: EXIF 2.3, sections 4.5 and 4.6.4; markers of JPEG: ITU-T T.81, annex B.
"""

import tensorflow as tf

_EXIF = list(b"Exif\0\0")
_ORIENTATION = 0x0112
# EXIF data stands in front, and no part of a JPEG's head is longer.
_MOST_BYTES = 2**17
_MARK, _APP1, _SCAN = 0xFF, 0xE1, 0xDA
_ENTRY_BYTES = 12
# Orientations that swap rows and columns; then turn left to right, upside down.
_SWAPPED, _MIRRORED, _UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


def upright(pixels: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
    """Turns a picture as its file says.

    Args:
      pixels: [H, W, C].
      content: string, the JPEG file that it comes from.

    Returns:
      [H, W, C] or [W, H, C].
    """
    number = orientation(content)

    def is_in(numbers: tuple[int, ...]) -> tf.Tensor:
        return tf.reduce_any(tf.equal(number, numbers))

    for numbers, turned in (
        (_SWAPPED, lambda x: tf.transpose(x, [1, 0, 2])),
        (_MIRRORED, lambda x: tf.reverse(x, [1])),
        (_UPSIDE_DOWN, lambda x: tf.reverse(x, [0])),
    ):
        before = pixels
        pixels = tf.cond(
            is_in(numbers),
            lambda turned=turned, before=before: turned(before),
            lambda before=before: before,
        )
        pixels.set_shape([None, None, before.shape[2]])
    return pixels


def orientation(content: tf.Tensor) -> tf.Tensor:
    """Gives int32 1 to 8 for a JPEG file, 1 where it says nothing."""
    head = tf.strings.substr(content, 0, _MOST_BYTES)
    # Zeros behind it, so that what points behind the end finds nothing.
    head = tf.strings.join([head, "\0" * _ENTRY_BYTES])
    data = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int32)
    start = _exif_start(data)
    return tf.cond(start > 0, lambda: _orientation_at(data, start), lambda: 1)


def _byte(data: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Gives the byte at a place, the last one (0) for places outside."""
    last = tf.size(data) - 1
    return tf.gather(data, tf.where((place < 0) | (place > last), last, place))


def _exif_start(data: tf.Tensor) -> tf.Tensor:
    """Gives where the EXIF data begins, behind its name; 0 if there is none."""

    def is_part(place: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        is_mark = tf.equal(_byte(data, place), _MARK)
        is_head = tf.not_equal(_byte(data, place + 1), _SCAN)
        return tf.equal(found, 0) & is_mark & is_head

    def next_part(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        name = _byte(data, place + 4 + tf.range(len(_EXIF)))
        is_exif = tf.equal(_byte(data, place + 1), _APP1)
        is_exif &= tf.reduce_all(tf.equal(name, _EXIF))
        length = _byte(data, place + 2) * 256 + _byte(data, place + 3)
        found = tf.where(is_exif, place + 4 + len(_EXIF), found)
        return place + 2 + tf.maximum(length, 2), found

    return tf.while_loop(is_part, next_part, [tf.constant(2), tf.constant(0)])[1]


def _orientation_at(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Gives the entry of the first directory of the EXIF data that begins there."""
    is_little = tf.equal(_byte(data, start), ord("I"))

    def number(place: tf.Tensor, size: int) -> tf.Tensor:
        """Gives the unsigned numbers of `size` bytes at some places."""
        powers = tf.range(size)
        powers = tf.where(is_little, powers, size - 1 - powers)
        digits = _byte(data, place[..., None] + tf.range(size))
        return tf.reduce_sum(digits * tf.bitwise.left_shift(1, 8 * powers), -1)

    directory = number(start + 4, 4)
    is_inside = (directory >= 0) & (directory < tf.size(data))
    first = start + tf.where(is_inside, directory, 0)
    entries = first + 2 + _ENTRY_BYTES * tf.range(number(first, 2))
    is_it = tf.equal(number(entries, 2), _ORIENTATION)
    # A number of two bytes stands at the front of its four.
    values = tf.boolean_mask(number(entries + 8, 2), is_it)
    return tf.concat([values, [1]], 0)[0]

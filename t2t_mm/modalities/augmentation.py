"""Random changes of pictures and sounds in training: pure functions of their draws.

The modality nets draw the random numbers (from a generator whose state is saved with
the run, so that it resumes exactly) and call these. Everything works on whole batches
in the graph, on the device that trains; nothing of it is ever stored.

Pictures are float [B, H, W, C] in 0..1, sounds float [B, T] in -1..1; a mask [B, H, W]
or [B, T] is true for a corner, or beginning, of each that is real.
"""

import math

import tensorflow as tf

# How bright a colour seems. Source: Rec. ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def crop_boxes(
    draws: tf.Tensor, *, min_area: float, max_stretch: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives random parts of pictures.

    area = min_area + draw0 * (1 - min_area), of the whole;
    stretch = max_stretch ** (2 * draw1 - 1);
    width = sqrt(area * stretch), height = sqrt(area / stretch), at most 1 each;
    the place is anywhere that the part fits.

    Args:
      draws: float [B, 4], uniform in 0..1.
      min_area: of a part, as a share of the picture, above 0.
      max_stretch: most that width / height of a part differs from the picture's, 1 or
        more.

    Returns:
      (top, left, height, width), float [B] each, as shares of the picture's sides.

    Source: Szegedy et al. 2015, section 6, arxiv.org/abs/1409.4842, where min_area is
    0.08 and max_stretch 4/3. We differ: a part that is too wide or high is cut to the
    picture and not drawn again, which has no fixed cost in a graph.
    """
    area = min_area + draws[:, 0] * (1.0 - min_area)
    stretch = tf.exp((2.0 * draws[:, 1] - 1.0) * math.log(max_stretch))
    width = tf.minimum(tf.sqrt(area * stretch), 1.0)
    height = tf.minimum(tf.sqrt(area / stretch), 1.0)
    return draws[:, 2] * (1.0 - height), draws[:, 3] * (1.0 - width), height, width


def centre_boxes(
    batch_size: tf.Tensor, share: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives the middle of pictures, `share` of each side, as `crop_boxes` does."""
    size = tf.fill([batch_size], share)
    edge = tf.fill([batch_size], (1.0 - share) / 2.0)
    return edge, edge, size, size


def cropped(
    images: tf.Tensor,
    mask: tf.Tensor,
    boxes: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
) -> tf.Tensor:
    """Gives parts of pictures at the size of the whole, bilinearly.

    Args:
      images: float [B, H, W, C].
      mask: bool [B, H, W]; shares are of the real part, which stays in its corner.
      boxes: (top, left, height, width), as `crop_boxes`.

    Returns:
      float [B, H, W, C]; a box of the whole gives the picture itself.
    """
    top, left, height, width = (part[:, None] for part in boxes)
    real = tf.cast(mask, tf.float32)
    num_rows = tf.reduce_max(tf.reduce_sum(real, 1), 1, keepdims=True)  # [B, 1]
    num_columns = tf.reduce_max(tf.reduce_sum(real, 2), 1, keepdims=True)
    row, column = pixels(images)
    # The middle of output pixel x, x + 1/2, lies at left + (x + 1/2) * width.
    return read_at(
        images,
        top * num_rows + (row + 0.5) * height - 0.5,
        left * num_columns + (column + 0.5) * width - 0.5,
    )


def pixels(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the numbers of rows and of columns: float [1, H], [1, W]."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    return tf.range(height)[None], tf.range(width)[None]


def read_at(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Gives pictures read at other places, bilinearly; beyond an edge, what is there.

    In plain gathers, since XLA has no operation for it.

    Args:
      images: float [B, H, W, C].
      rows: float [B, H'], where each row is read, in pixels.
      columns: float [B, W'].

    Returns:
      float [B, H', W', C].
    """
    for axis, places in ((1, rows), (2, columns)):
        last = tf.shape(images)[axis] - 1
        places = tf.clip_by_value(places, 0.0, tf.cast(last, tf.float32))
        floor = tf.floor(places)
        share = tf.cast(places - floor, images.dtype)[..., None]
        share = share[:, :, None] if axis == 1 else share[:, None]
        before = tf.cast(floor, tf.int32)
        after = tf.minimum(before + 1, last)
        first = tf.gather(images, before, axis=axis, batch_dims=1)
        second = tf.gather(images, after, axis=axis, batch_dims=1)
        images = first + (second - first) * share
    return images


def saturated(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Gives pictures whose colours are stronger (factor above 1) or paler, in 0..1.

    Args:
      images: float [B, H, W, C]; fewer than 3 channels have no colour and stay.
      factor: float [B]; 0 is grey, 1 the picture itself.
    """
    if images.shape[-1] < 3:
        return images
    colours = images[..., :3]
    grey = tf.reduce_sum(colours * tf.constant(_LUMA), -1, keepdims=True)
    # Written so that a factor of 1 changes no bit.
    changed = colours + (colours - grey) * (factor - 1.0)[:, None, None, None]
    changed = tf.clip_by_value(changed, 0.0, 1.0)
    return tf.concat([changed, images[..., 3:]], -1)


def at_speed(
    waveform: tf.Tensor, mask: tf.Tensor, speed: tf.Tensor, *, slowest: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives sounds played faster or slower, which changes their pitch, too.

    Between samples, a cubic through the four nearest (Keys 1981, a = -1/2).

    Args:
      waveform: float [B, T].
      mask: bool [B, T].
      speed: float [B], 1 is as it was; at least `slowest`.
      slowest: decides how many samples there is room for.

    Returns:
      (float [B, ceil(T / slowest)], its mask): length / speed samples are real, rounded
      down, and at least one of a sound that has any.

    Source: Ko et al. 2015, "Audio augmentation for speech recognition", speeds of 0.9,
    1 and 1.1. We differ: any speed between.
    """
    length = tf.reduce_sum(tf.cast(mask, tf.int32), 1)  # [B]
    size = waveform.shape[1] or tf.shape(waveform)[1]
    room = tf.cast(tf.math.ceil(tf.cast(size, tf.float32) / slowest), tf.int32)
    new_length = tf.cast(tf.cast(length, tf.float32) / speed, tf.int32)
    new_length = tf.maximum(new_length, tf.minimum(length, 1))
    place = tf.range(room, dtype=tf.int32)[None]  # [1, T']
    position = tf.cast(place, tf.float32) * speed[:, None]  # [B, T']
    floor = tf.floor(position)
    f = position - floor
    weights = (
        ((-0.5 * f + 1.0) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1.0,
        ((-1.5 * f + 2.0) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    )
    last = tf.maximum(length - 1, 0)[:, None]
    first = tf.cast(floor, tf.int32)
    sound = tf.zeros_like(position)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = tf.clip_by_value(first + offset, 0, last)
        sound += weight * tf.gather(waveform, index, batch_dims=1)
    new_mask = place < new_length[:, None]
    return tf.where(new_mask, sound, 0.0), new_mask


def noisy(
    waveform: tf.Tensor, mask: tf.Tensor, noise: tf.Tensor, level: tf.Tensor
) -> tf.Tensor:
    """Adds noise, its loudness relative to each sound's own; in -1..1.

    Args:
      waveform: float [B, T].
      mask: bool [B, T]; what is not real stays silent.
      noise: float [B, T] of mean square 1.
      level: float [B], ratio of root mean squares; 0 adds none, 0.1 is 20 dB below.
    """
    real = tf.cast(mask, waveform.dtype)
    count = tf.maximum(tf.reduce_sum(real, 1, keepdims=True), 1.0)
    power = tf.reduce_sum(tf.square(waveform * real), 1, keepdims=True) / count
    changed = waveform + noise * level[:, None] * tf.sqrt(power)
    return tf.clip_by_value(changed, -1.0, 1.0) * real


def bands_masked(
    x: tf.Tensor, draws: tf.Tensor, *, axis: int, share: float, sizes: tf.Tensor
) -> tf.Tensor:
    """Zeroes a random band of frequency, or of time, in each spectrum (SpecAugment).

    width = draw0 * share * size; start = draw1 * (size - width).

    Args:
      x: float [B, T, bins]; zero is the mean, where spectra are normalised.
      draws: float [B, 2], uniform in 0..1.
      axis: 1 for time, 2 for frequency.
      share: the widest band, as a share of the axis.
      sizes: float [B], how much of the axis is real.

    Source: Park et al. 2019, section 2, arxiv.org/abs/1904.08779, without time warping.
    """
    width = draws[:, :1] * share * sizes[:, None]
    start = draws[:, 1:] * (sizes[:, None] - width)
    index = tf.range(tf.cast(tf.shape(x)[axis], tf.float32))[None]
    keep = tf.logical_or(index < start, index >= start + width)  # [B, size]
    keep = keep[:, :, None] if axis == 1 else keep[:, None]
    return x * tf.cast(keep, x.dtype)

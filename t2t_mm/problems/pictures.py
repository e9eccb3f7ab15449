"""Pictures as PNG bytes: pasting on white, and small random changes for training.

Pillow is imported inside the functions, so that the zoo's index stays quick.
"""

import io

import numpy as np


def png_on_white(png: bytes) -> bytes:
    """Gives a picture without transparency, pasted on white.

    Args:
      png: a PNG file, with or without transparency.

    Returns:
      A PNG file of the same size, RGB.
    """
    return _saved(_pasted(_opened(png)))


def png_varied(png: bytes, rng: np.random.Generator, *, may_flip: bool) -> bytes:
    """Gives a picture slightly turned, scaled and moved, pasted on white.

    Turned by up to 12 degrees, scaled by 0.75 to 1.1, moved by up to 8 percent.

    Args:
      png: a PNG file, with or without transparency.
      rng: decides on the changes.
      may_flip: whether left and right may change places; not where words say which
        is which.

    Returns:
      A PNG file of the same size, RGB.
    """
    from PIL import Image

    picture = _opened(png)
    angle = np.deg2rad(rng.uniform(-12.0, 12.0))
    scale = rng.uniform(0.75, 1.1)
    shift = rng.uniform(-0.08, 0.08, size=2) * np.array(picture.size)
    flip = -1.0 if may_flip and rng.random() < 0.5 else 1.0
    centre = np.array(picture.size) / 2.0
    turn = (
        np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        / scale
        @ np.diag([flip, 1.0])
    )
    start = centre - turn @ (centre + shift)
    moved = picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        (*turn[0], start[0], *turn[1], start[1]),
        resample=Image.Resampling.BILINEAR,
    )
    return _saved(_pasted(moved))


def png_of_array(pixels: np.ndarray) -> bytes:
    """Gives a PNG file of uint8 [H, W] (grey) or [H, W, 3] (RGB)."""
    from PIL import Image

    return _saved(Image.fromarray(pixels))


def _opened(png: bytes):
    from PIL import Image

    return Image.open(io.BytesIO(png)).convert("RGBA")


def _pasted(picture):
    from PIL import Image

    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture.getchannel("A"))
    return paper


def _saved(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
